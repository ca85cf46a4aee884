"""Run folders: who may write one, when it is finished, and what it says about itself.

runs/<sweep>/<row>/seed<k>/
  config.yaml      resolved configuration
  provenance.json  code version, packages, data, hardware, attempts
  best.ckpt        weights of the best epoch, loads with weights_only=True
  last.ckpt        where an interrupted run goes on; removed at the end
  history.csv      one line per epoch
  train.log        what was said, with times; traces of errors
  predictions.npz  validation logits and labels (frames x AUs), video, group and frame of each, aus
  metrics.json     written last, by rename: its presence means that the run is finished
"""

import contextlib
import hashlib
import json
import logging
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import aunet
from aunet.files import write_json

log = logging.getLogger(__name__)

NO_EFFECT = (
    "logger", "log_frames", "out_dir", "runs", "host", "progress", "checkpoint_minutes", "dynamics_every",
    "data.root", "data.workers", "data.threads", "data.val_batch_size", "data.prepare", "data.on_bad",
    "data.read.crops", "data.read.annotations", "data.read.pictures", "data.read.file",
    "trainer.default_root_dir", "trainer.enable_progress_bar", "trainer.devices", "trainer.strategy", "title",
    "paper_f1", "reference", "model", "weights", "vggface", "sampling", "augmentation",
)  # fmt: skip
"""Keys of the configuration that change no result; all others make a run another run. The data themselves are
compared by their fingerprint; several devices make the steps of one, see ``aunet.parallel``, but for other
dropout masks, which another kind of device draws too; ``model``, ``weights``, ``vggface``, ``sampling`` and
``augmentation`` only feed or join other keys."""

_PLACE_OF_PART = re.compile(r"data\.read\.parts\.[^.]+\.(root|read\.(crops|annotations|pictures|file))")
"""Where the parts of a mixed data set lie."""

ABSENT = "absent"
"""A value of ``changes`` that a configuration does not have."""

_PACKAGES = (
    "torch",
    "torchvision",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "numpy",
    "simplejpeg",
    "anny",
)


class RunError(RuntimeError):
    """A run folder cannot be used as asked; the message says why and what to do."""


def config_digest(config: Mapping[str, Any]) -> str:
    """Hash of the part of a resolved configuration that can change results."""
    return _digest(_relevant(config))


def recipe_digest(config: Mapping[str, Any]) -> str:
    """The same without place and seed: equal for runs that may be averaged as seeds of one row."""
    relevant = _relevant(config)
    return _digest({key: relevant[key] for key in relevant.keys() - {"seed", "data.seed", "sweep"}})


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The result-changing keys in which two resolved configurations differ, each as ``key: old -> new``."""
    return [f"{key}: {before} -> {after}" for key, (before, after) in changes(old, new).items()]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """The same as ``{dotted key: (old, new)}``; values as JSON, or "absent"."""
    before, after = _relevant(old), _relevant(new)
    pairs = {key: (before.get(key, ABSENT), after.get(key, ABSENT)) for key in before.keys() | after.keys()}
    return {key: pairs[key] for key in sorted(pairs) if pairs[key][0] != pairs[key][1]}


def read_metrics(folder: Path) -> dict[str, Any] | None:
    """Metrics of a finished run; None where there is none.

    Raises:
        RunError: The file is damaged.
    """
    return read_json(folder / "metrics.json")


def check_unchanged(
    folder: Path, old_config: Mapping[str, Any] | None, config: Mapping[str, Any], data_fingerprint: str
) -> None:
    """Refuses to go on in a folder that holds a run of another configuration or of other data.

    What left no checkpoint, such as an attempt whose weights could not be had, is no run yet.

    Raises:
        RunError: Says what differs.
    """
    if not any((folder / name).exists() for name in ("metrics.json", "last.ckpt", "best.ckpt")):
        return
    recorded = read_metrics(folder) or read_json(folder / "provenance.json") or {}
    asked, digest = config_digest(config), recorded.get("config_digest")
    if old_config is not None:
        changed = differences(old_config, config)
    else:
        changed = ["config.yaml is missing"] if digest is None else []
    if digest not in (None, asked) and not changed:  # config.yaml is missing, or was edited
        changed = [f"config_digest: {digest} -> {asked}"]
    before = recorded.get("data_fingerprint", data_fingerprint)
    if before != data_fingerprint:
        changed.append(f"data fingerprint: {before} -> {data_fingerprint}")
    if changed:
        raise RunError(
            f"{folder} holds a run with another configuration: {'; '.join(changed[:12])}. Give this "
            f"one another place (sweep=NAME or name=NAME), or remove that folder"
        )


def begin(folder: Path, data: Mapping[str, Any], hardware: Mapping[str, Any]) -> None:
    """Records what an attempt runs on: adds to ``provenance.json`` what earlier attempts wrote.

    Args:
        folder: The run folder.
        data: ``data_fingerprint`` and the splits' counts.
        hardware: See ``aunet.host.describe_host``.
    """
    earlier = read_json(folder / "provenance.json") or {}
    record = {
        "aunet": aunet.__version__,
        "commit": source_commit(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
        **data,
        "attempts": [*earlier.get("attempts", []), dict(hardware)],
    }
    write_json(folder / "provenance.json", record)


def failure_file(folder: Path) -> Path:
    """Where a run's failure is recorded: beside its folder, in which an earlier run may have finished."""
    return folder.with_name(f"{folder.name}.failed.json")


def record_failure(folder: Path, reason: str) -> None:
    """Records why an attempt of a run failed; the next attempt removes the record."""
    with contextlib.suppress(OSError):  # on a full disk the reason is told, but not kept
        write_json(failure_file(folder), {"reason": reason, "host": platform.node(), "time": _now()})


@contextlib.contextmanager
def logged(file: Path) -> Iterator[None]:
    """Keeps what is said meanwhile in a file, with times, and the trace of an error that ends it."""
    handler = logging.FileHandler(file, delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    handler.handleError = lambda record: None  # type: ignore[method-assign]  # on a full disk
    logging.getLogger().addHandler(handler)
    try:
        yield
    except Exception as error:
        trace = (type(error), error, error.__traceback__)
        handler.handle(log.makeRecord(log.name, logging.ERROR, __file__, 0, "the run failed", (), trace))
        raise
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def read_json(path: Path, remedy: str = "remove the run's folder") -> dict[str, Any] | None:
    """Content of a file that must hold a JSON object; None where there is no file.

    Args:
        path: Of the file.
        remedy: What the error says to do.

    Raises:
        RunError: The file is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:  # no JSON, or no text at all
        raise RunError(f"{path}: not JSON ({error}); {remedy}") from None
    if not isinstance(content, dict):
        raise RunError(f"{path}: no JSON object; {remedy}")
    return content


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _digest(relevant: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:16]


def _relevant(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flat ``{dotted key: value}`` without the keys that change no result."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        path = f"{prefix}{key}"
        if path in NO_EFFECT or _PLACE_OF_PART.fullmatch(path):
            continue
        if isinstance(value, Mapping):
            flat |= _relevant(value, f"{path}.")
        else:
            flat[path] = json.dumps(value)
    return flat


def source_commit() -> str | None:
    """Commit of the source tree that runs, marked where it has changes; None for an installed package."""
    source = Path(__file__).parent.parent
    if not (source / ".git").exists():  # git would go up, to whatever holds the environment
        return None
    # The git of the user's PATH (S607): its place differs between systems.
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607
            cwd=source, capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
