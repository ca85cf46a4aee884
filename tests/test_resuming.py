"""Runs that are interrupted anywhere go on as if nothing had happened."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupting import Killed, interrupted

from aunet.runs import RunError
from aunet.train import train

pytestmark = pytest.mark.filterwarnings("ignore")

FEW = "backbone.filters=[4,4,4,4,8,8]"
OURS = ("experiment=table1/ours", FEW)
DRAWN = ("augmentation=strong", "sampling=balanced_labels", FEW)
FROZEN = (
    *("experiment=table1/baseline", "classifier.hidden=[16,16]"),
    *("backbone=efficientnet_lite0", "backbone.trainable=none"),
)
"""Draws dropout masks and caches features as the baseline does, whose VGG16 is large."""

LONG = ("epochs=3", "lr_epochs=2", "checkpoint_minutes=0")
"""A checkpoint after every step, but for the last ones of epochs, and one at each epoch's end."""


@pytest.fixture
def on_replacing(monkeypatch):
    """Calls something after every file that has taken its place, which is how run folders change."""
    original, hooks = os.replace, []

    def replace(source, target, **options):
        original(source, target, **options)
        for hook in hooks:
            hook(Path(target))

    monkeypatch.setattr(os, "replace", replace)
    return hooks


def digest(array):
    return array.shape, hashlib.sha256(array.tobytes()).hexdigest()


def outcome(cfg):
    """All that a run leaves, but for times and hosts."""
    folder = Path(cfg.out_dir)
    metrics = json.loads((folder / "metrics.json").read_text())
    rows = [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
    assert rows[0][1] == "seconds"
    assert all(0 < float(row[1]) < 200 for row in rows[1:])
    with np.load(folder / "predictions.npz") as predictions:
        arrays = {name: digest(predictions[name]) for name in predictions}
    best = torch.load(folder / "best.ckpt", weights_only=True)
    return {
        "metrics": {key: metrics[key] for key in metrics if "seconds" not in key and key != "config_digest"},
        "history": [row[:1] + row[2:] for row in rows],
        "predictions": arrays,
        "weights": {name: digest(value.numpy()) for name, value in best["state_dict"].items()},
        "files": {path.name for path in folder.iterdir()} - {".owner.json"},
    }


def states(cfg, into, hooks):
    """Trains to the end; the run's folder after each change of it: (what changed, copy)."""
    folder, copies = Path(cfg.out_dir), []

    def copy(target):
        if target.parent == folder:
            copies.append((target.name, shutil.copytree(folder, into / str(len(copies)))))

    hooks.append(copy)
    train(cfg)
    hooks.clear()
    return copies


@pytest.mark.parametrize("row", [OURS, FROZEN], ids=["ours", "baseline"])
def test_killed_between_any_two_writes(row, compose, tmp_path, on_replacing):
    """And moved elsewhere: the folder goes on from any state that it ever had."""
    row = (*row, "epochs=2", "lr_epochs=1", "checkpoint_minutes=0")
    whole = compose(*row)
    copies = states(whole, tmp_path / "copies", on_replacing)
    expected = outcome(whole)
    assert {"provenance.json", "progress.json", "last.ckpt", "history.csv", "best.ckpt", "metrics.json"} <= {
        name for name, _ in copies
    }
    for number, (name, copy) in enumerate(copies):
        again = compose(*row, f"runs={tmp_path}/again{number}")
        Path(again.out_dir).parent.mkdir(parents=True)
        shutil.copytree(copy, again.out_dir)
        train(again)
        assert outcome(again) == expected, f"killed after write {number}, of {name}"


def test_killed_after_every_checkpoint(compose, tmp_path, on_replacing):
    """Each attempt goes on from what the one before had gone on from."""
    whole, cut = compose(*OURS, *LONG, "sweep=whole"), compose(*OURS, *LONG, "sweep=cut")
    train(whole)
    copy, folder = tmp_path / "copy", Path(cut.out_dir)

    def kill(target):
        if target == folder / "last.ckpt":
            shutil.copytree(folder, copy)
            raise Killed

    on_replacing.append(kill)
    attempts = 1
    while True:
        try:
            train(cut)
            break
        except Killed:  # what it did on its way out is undone
            shutil.rmtree(folder)
            copy.rename(folder)
            attempts += 1
    assert attempts == 3 * 4 + 1  # steps, the last of each epoch being its end, and what is left
    assert outcome(cut) == outcome(whole)
    assert len(json.loads((folder / "provenance.json").read_text())["attempts"]) == attempts


def test_best_weights_that_are_gone_are_told(compose, tmp_path, on_replacing):
    cfg = compose(*OURS, "epochs=1")
    copies = states(cfg, tmp_path / "copies", on_replacing)
    copy = [copy for name, copy in copies if name == "last.ckpt"][-1]
    shutil.rmtree(cfg.out_dir)
    shutil.copytree(copy, cfg.out_dir)
    (Path(cfg.out_dir) / "best.ckpt").unlink()
    with pytest.raises(RunError, match=r"best.ckpt is missing: last.ckpt cannot go on without it"):
        train(cfg)


@pytest.mark.parametrize(
    ("row", "workers", "batch"),
    [(DRAWN, 0, 1), (DRAWN, 2, 3), (FROZEN, 0, 3)],
    ids=["ours", "ours with workers", "baseline"],
)
def test_run_interrupted_within_an_epoch_goes_on_with_the_next_batch(
    compose, monkeypatch, row, batch, workers
):
    row = (*row, *LONG, f"data.workers={workers}")
    whole, cut = compose(*row, "sweep=whole"), compose(*row, "sweep=cut")
    train(whole)
    seen = interrupted(monkeypatch, cut, 1, batch)
    assert not (Path(cut.out_dir) / "metrics.json").exists()
    train(cut)
    assert seen == [
        *((0, i) for i in range(4)),
        *((1, i) for i in range(batch)),
        (1, batch),  # where it was interrupted
        *((1, i) for i in range(batch, 4)),
        *((2, i) for i in range(4)),
    ]
    assert outcome(cut) == outcome(whole)
