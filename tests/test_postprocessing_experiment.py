"""The table of what post-processing changes, on runs written by hand."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from run_folders import AUS, predictions, write_run

from aunet.cells import cells_at
from aunet.data.frames import FrameTable
from aunet.data.sources import CropFiles
from aunet.metrics import confusion_counts, f1_per_au
from aunet.postprocess import Postprocess
from aunet.runs import RunError
from aunet.thresholds import best_threshold, rankings

pytestmark = pytest.mark.filterwarnings("ignore:.* videos. an interval may cover less")

SCRIPT = Path(__file__).parents[1] / "experiments" / "postprocessing.py"
_spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)

MAJORITY = [1, 0, 0]
"""Of the training rates 0.5, 0.25, 0.4."""


@pytest.fixture
def runs(tmp_path):
    """Two seeds of a row, as of runs on rendered faces."""
    folders = [write_run(tmp_path / "sweep", "a", seed) for seed in (0, 1)]
    for folder in folders:
        (folder / "config.yaml").write_text(
            "data: {prepare: {stride: 15, seed: 0, landmarks: moving, landmark_noise: 1.5}}\n"
        )
    return folders


def faces(labels, frames=60):
    """A table of two people in each of six videos, with gaps, and labels by ``labels(n, rng)``."""
    rng = np.random.default_rng(0)
    kept = [np.sort(rng.choice(np.arange(1, frames + 1), frames - 6, replace=False)) for _ in range(12)]
    video = np.repeat(np.arange(12, dtype=np.int32), frames - 6)
    frame = np.concatenate(kept).astype(np.int32)
    return FrameTable(
        aus=AUS,
        videos=tuple(f"v{n // 2}_{('left', 'right')[n % 2]}" for n in range(12)),
        groups=tuple(f"v{n // 2}" for n in range(12)),
        video=video,
        frame=frame,
        labels=labels(len(frame), rng),
        source=CropFiles([], video, frame),
        pictures="",
    )


def noise(count, rng):
    return rng.integers(-1, 2, (count, len(AUS))).astype(np.int8)


def macro(said, labels):
    return f1_per_au(confusion_counts(np.asarray(said, np.float32), labels)).mean()


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    script.main()


def test_lines_are_those_of_direct_computation(runs):
    table = faces(noise)
    probs = [np.random.default_rng(seed).random((len(table), 3)).astype(np.float32) for seed in (1, 2)]
    cells = script.find_cells([runs[0].parent])
    found = {line.option: line for line in script.measure(
        [script.counts_of_run(cell, p, table) for cell, p in zip(cells, probs, strict=True)]
    )}  # fmt: skip
    hidden = script.hide(table)
    expected = {name: [] for name in ("plain", "tuned", "causal", "nearest", "last", "majority", "seen")}
    for seed, p in enumerate(probs):
        arrays = predictions("a", seed)
        own = 1 / (1 + np.exp(-arrays["logits"].astype(np.float64)))
        thresholds = [best_threshold(ranking) for ranking in rankings(own, arrays["labels"])]
        smoothed, nearest, last = p.astype(np.float64), p >= 0.5, p.copy()
        for i in range(len(p)):
            mine = np.flatnonzero(table.video == table.video[i])
            before = table.frame[i] - table.frame[mine]
            smoothed[i] = p[mine[(before >= 0) & (before <= 30)]].astype(np.float64).mean(0)
            if hidden[i]:
                seen = mine[~hidden[mine]]
                apart = np.abs(table.frame[i] - table.frame[seen])
                nearest[i] = p[seen[apart.argmin()]] >= 0.5  # the earlier of two
                passed = seen[table.frame[seen] < table.frame[i]]
                last[i] = p[passed[-1]] if len(passed) else p[seen[0]]  # which is the nearest then
        on_hidden = np.where(hidden[:, None], table.labels, -1).astype(np.int8)
        expected["plain"].append(macro(p >= 0.5, table.labels))
        expected["tuned"].append(macro(p >= np.array(thresholds), table.labels))
        expected["causal"].append(macro(smoothed >= 0.5, table.labels))
        expected["nearest"].append(macro(nearest, on_hidden))
        expected["last"].append(macro(last >= 0.5, on_hidden))
        expected["seen"].append(macro(p >= 0.5, on_hidden))
        expected["majority"].append(macro(np.tile(MAJORITY, (len(p), 1)), on_hidden))
    means = {name: np.mean(values) for name, values in expected.items()}
    for option, name, without in (
        ("thresholds tuned", "tuned", "plain"),
        ("causal, 1 s", "causal", "plain"),
        ("hidden: last value", "last", "nearest"),
        (script.SEEN, "seen", "nearest"),
        (script.MAJORITY, "majority", "nearest"),
    ):
        line = found[option]
        assert line.f1 == pytest.approx(means[name], abs=1e-6), option
        assert line.f1_without == pytest.approx(means[without], abs=1e-6), option
        assert line.difference.value == pytest.approx(means[name] - means[without], abs=1e-6)
        assert line.difference.low <= line.difference.value <= line.difference.high
        assert line.difference.p <= line.p_corrected <= 1


def test_each_face_loses_a_stretch_but_never_all_it_has():
    table = faces(noise)
    hidden = script.hide(table)
    for video in range(len(table.videos)):
        places = np.flatnonzero(hidden[table.video == video])
        assert len(places) == script.HIDDEN
        assert (np.diff(places) == 1).all()
    np.testing.assert_array_equal(script.hide(table), hidden)
    short = script.hide(faces(noise, frames=9))
    assert short.reshape(12, 3).sum(1).tolist() == [2] * 12


def test_smoothing_and_filling_help_where_noise_is_all_there_is_to_remove(runs):
    """Labels that stay as they are within a video, and probabilities of much noise."""
    table = faces(lambda n, rng: np.repeat(rng.integers(0, 2, (12, 3)), n // 12, axis=0).astype(np.int8))
    probs = 1 / (1 + np.exp(1 - 2.0 * table.labels - np.random.default_rng(1).normal(0, 2, (len(table), 3))))
    counts = script.counts_of_run(cells_at(runs[0])[0], probs, table)
    found = {line.option: line.difference for line in script.measure([counts])}
    assert 0 < found["centred, 0.3 s"].value < found["centred, 1 s"].value
    assert found["centred, 1 s"].low > 0
    assert found["hidden: interpolated"].value > 0
    assert found[script.MAJORITY].high < 0


def test_table_is_printed_and_written_and_runs_stay_as_they_are(runs, tmp_path, monkeypatch, capsys):
    table, asked = faces(noise), []
    monkeypatch.setattr(script, "render", lambda root, **arguments: asked.append((root, arguments)))
    monkeypatch.setattr(script, "predict", lambda cell, root: (np.full((len(table), 3), 0.7), table))
    before = {file: file.stat().st_mtime_ns for run in runs for file in run.iterdir()}
    command(monkeypatch, runs[0].parent, "--data", tmp_path / "faces", "--out", tmp_path / "out")
    assert asked[0][0] == tmp_path / "faces"
    assert asked[0][1].items() >= {"seed": 1, "landmarks": "moving", "landmark_noise": 1.5}.items()
    text = (tmp_path / "out" / "table.md").read_text()
    written = json.loads((tmp_path / "out" / "table.json").read_text())
    assert capsys.readouterr().out.startswith(text)
    options = [*script.OPTIONS, *script.FILLS, script.SEEN, script.MAJORITY]
    assert [line["option"] for line in written["lines"]] == options
    assert all(f"| {option} | " in text for option in options)
    assert (written["row"], written["seeds"]) == ("a", [0, 1])
    assert written["videos"]["groups"] == 6
    assert written["provenance"]["data_fingerprint"] == "train:0-val:1"
    assert {file: file.stat().st_mtime_ns for run in runs for file in run.iterdir()} == before


def test_what_cannot_be_measured_is_refused(runs, tmp_path, monkeypatch):
    other = write_run(tmp_path / "sweep", "b")
    with pytest.raises(RunError, match="are not seeds of one row"):
        script.find_cells([runs[0], other])
    assert script.find_cells([runs[0], runs[0]]) == script.find_cells([runs[0]])
    with pytest.raises(SystemExit, match=r"aunet: .*nowhere holds no runs"):
        command(monkeypatch, tmp_path / "nowhere")
    for content, said in (
        ("data: {}", "has seen no rendered faces"),
        ("data: {prepare: {stride: 15, seed: 0}}", r"data\.prepare\.landmarks is not told"),
        ("data: {prepare: {stride: 15, seed: 1}}", r"trained on the people of data\.prepare\.seed=1"),
    ):
        (runs[0] / "config.yaml").write_text(content)
        with pytest.raises(SystemExit, match=said):
            command(monkeypatch, runs[0])
    (runs[0] / "metrics.json").unlink()
    with pytest.raises(SystemExit, match="has not finished: leave it out"):
        command(monkeypatch, runs[0])


def test_options_differ():
    options = {**script.OPTIONS, **script.FILLS}
    assert len(set(options.values())) == len(options)
    assert Postprocess() not in options.values()
