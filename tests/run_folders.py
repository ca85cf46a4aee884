"""Writes run folders by hand, as runs of ``aunet train`` would leave them."""

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from aunet.cells import plan
from aunet.metrics import confusion_counts, f1_metrics

AUS = (1, 2, 12)
GROUPS = 8
FRAMES = 24
"""Of each group, in two videos."""

PROVENANCE = {
    "commit": "abc1234",
    "packages": {"torch": "2.6.0"},
    "splits": {
        "train": {
            "videos": 20,
            "frames": 480,
            "positives": [9, 0, 24],
            "known": [480, 0, 47],
            "left_out": {},
        },
        "val": {
            "videos": 16,
            "frames": 192,
            "positives": [3, 4, 5],
            "known": [192] * 3,
            "left_out": {"-1": 7},
        },
    },
    "attempts": [{"system": "Linux", "cores": 2}],
}
"""Of runs with the AUs above."""


def predictions(
    row: str, seed: int = 0, *, aus: Sequence[int] = AUS, groups: int = GROUPS, skill: float = 1.0
) -> dict[str, np.ndarray]:
    """What ``predictions.npz`` of a run holds: the same frames and labels for all, logits of its own.

    Args:
        row: Name of the row; it and the seed choose the logits' noise.
        seed: Of the run.
        aus: Columns.
        groups: Base videos, each of them with a left and a right video.
        skill: How well the logits tell the labels.
    """
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(groups), FRAMES)
    rates = rng.uniform(0.15, 0.6, (groups, len(aus)))
    labels = (rng.random((len(number), len(aus))) < rates[number]).astype(np.int8)
    labels[rng.random(labels.shape) < 0.05] = -1
    side = np.where(np.arange(len(number)) % FRAMES < FRAMES // 2, "left", "right")
    noise = np.random.default_rng([zlib.crc32(row.encode()), seed]).normal(size=labels.shape)
    return {
        "logits": (skill * (2 * (labels == 1) - 1) + noise).astype(np.float32),
        "labels": labels,
        "video": np.array([f"v{n}_{s}" for n, s in zip(number, side, strict=True)]),
        "group": np.array([f"v{n}" for n in number]),
        "frame": np.tile(np.arange(FRAMES), groups),
        "aus": np.array(aus),
    }


def write_run(
    sweep: Path,
    row: str,
    seed: int = 0,
    *,
    arrays: Mapping[str, np.ndarray | None] | None = None,
    aus: Sequence[int] = AUS,
    groups: int = GROUPS,
    skill: float = 1.0,
    reference: str | None = None,
    provenance: Mapping[str, Any] = PROVENANCE,
    **changes: Any,
) -> Path:
    """Writes ``metrics.json``, ``predictions.npz`` and ``provenance.json`` of one run.

    Args:
        sweep: Folder ``runs/<sweep>``.
        row: Name of the row.
        seed: Of the run.
        arrays: Takes the place of some of ``predictions.npz``; None leaves one out.
        aus: See ``predictions``, as the next two.
        groups: See there.
        skill: See there.
        reference: Row that the sweep's plan compares this one with; None: the run is not in the plan.
        provenance: Content of the file.
        **changes: Other entries of ``metrics.json``; ``flops`` and ``pos_weight`` are there only if given.

    Returns:
        The run folder.
    """
    folder = sweep / row / f"seed{seed}"
    folder.mkdir(parents=True)
    content = predictions(row, seed, aus=aus, groups=groups, skill=skill) | dict(arrays or {})
    kept = {name: array for name, array in content.items() if array is not None}
    np.savez_compressed(folder / "predictions.npz", **kept)
    metrics = {
        "row": row,
        "title": f"the {row}",
        "seed": seed,
        "paper_f1": 0.4803,
        "data": "affwild2",
        "data_fingerprint": "train:0-val:1",
        "recipe_digest": row,
        "aus": list(aus),
        "training_rates": [0.5, 0.25, 0.4, 0.3][: len(aus)] + [0.2] * (len(aus) - 4),
        "epochs": 8,
        "training_seconds": 10.0,
        "parameters": 1_500_000,
        "from_scratch": True,
        "frozen": False,
    }
    if {"logits", "labels"} <= kept.keys() and kept["logits"].shape == kept["labels"].shape:
        detected = (kept["logits"] >= 0).astype(np.float32)
        metrics |= f1_metrics(confusion_counts(detected, kept["labels"]), aus)
    (folder / "metrics.json").write_text(json.dumps(metrics | changes))
    (folder / "provenance.json").write_text(json.dumps(provenance))
    if reference is not None:
        title = str(changes.get("title", f"the {row}"))
        plan(sweep, {(row, seed): {"title": title, "reference": reference}})
    return folder


def write_unfinished(sweep: Path, row: str, seed: int = 0, failed: str | None = None) -> Path:
    """Leaves what a run that was killed leaves, or with ``failed`` one that told why; returns its folder."""
    folder = sweep / row / f"seed{seed}"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(f"name: {row}\n")
    if failed is not None:
        folder.with_name(f"{folder.name}.failed.json").write_text(json.dumps({"reason": failed}))
    return folder


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process holds a folder, as one that trains does; it is killed at the end."""
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom aunet.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(120)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
