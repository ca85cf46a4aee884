"""The table of what post-processing changes, on runs written by hand."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from run_folders import predictions, write_run

from aunet.metrics import confusion_counts, f1_per_au
from aunet.postprocess import Postprocess
from aunet.runs import RunError
from aunet.thresholds import cross_fitted_thresholds

pytestmark = pytest.mark.filterwarnings("ignore:.* videos. an interval may cover less")

SCRIPT = Path(__file__).parents[1] / "experiments" / "postprocessing.py"
_spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


@pytest.fixture
def runs(tmp_path):
    """Two seeds of a row."""
    return [write_run(tmp_path / "sweep", "a", seed) for seed in (0, 1)]


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", [SCRIPT.name, *map(str, arguments)])
    script.main()


def macro(detected, labels):
    return f1_per_au(confusion_counts(detected.astype(np.float32), labels)).mean()


def test_lines_are_those_of_direct_computation(runs):
    lines, groups = script.measure([script.read_run(run) for run in runs], 2.0)
    found = {line.option: line for line in lines}
    assert groups == 8
    expected = {name: [] for name in ("plain", "tuned", "causal", "majority", "last")}
    for seed in (0, 1):
        arrays = predictions("a", seed)
        labels, track, seconds = arrays["labels"], arrays["video"], (arrays["frame"] - 1) / 2
        probs = 1 / (1 + np.exp(-arrays["logits"].astype(np.float64)))
        expected["plain"].append(macro(probs >= 0.5, labels))
        thresholds = cross_fitted_thresholds(probs, labels, arrays["group"])
        expected["tuned"].append(macro(probs >= thresholds, labels))
        smoothed, last = np.empty_like(probs), probs.copy()
        hidden = script.hide(track, seconds)
        for i in range(len(probs)):
            mine = np.flatnonzero(track == track[i])
            window = mine[(seconds[mine] <= seconds[i]) & (seconds[mine] >= seconds[i] - 1)]
            smoothed[i] = probs[window].mean(0)
            before = mine[(seconds[mine] < seconds[i]) & ~hidden[mine]]
            if hidden[i]:
                last[i] = probs[before[-1]] if len(before) else [1, 0, 0]  # rates 0.5, 0.25, 0.4
        expected["causal"].append(macro(smoothed >= 0.5, labels))
        expected["last"].append(macro(last >= 0.5, labels))
        expected["majority"].append(macro(np.where(hidden[:, None], [1, 0, 0], probs) >= 0.5, labels))
    means = {name: np.mean(values) for name, values in expected.items()}
    for option, name, without in (
        ("thresholds tuned", "tuned", "plain"),
        ("causal, 1 s", "causal", "plain"),
        (script.GAPS, "majority", "plain"),
        ("hidden frames: last value", "last", "majority"),
    ):
        line = found[option]
        assert line.f1 == pytest.approx(means[name], abs=1e-6), option
        assert line.f1_without == pytest.approx(means[without], abs=1e-6), option
        assert line.difference.value == pytest.approx(means[name] - means[without], abs=1e-6)
        assert line.difference.low <= line.difference.value <= line.difference.high
        assert line.difference.p <= line.p_corrected <= 1


def test_each_face_loses_a_stretch_but_never_all_it_has():
    rng = np.random.default_rng(3)
    track = rng.permutation(np.repeat(["a", "b", "c", "d"], [1, 2, 5, 30]))
    seconds = rng.random(len(track))
    hidden = script.hide(track, seconds)
    for name, count in {"a": 0, "b": 1, "c": 2, "d": 2}.items():
        rows = np.flatnonzero(track == name)
        rows = rows[np.argsort(seconds[rows])]
        places = np.flatnonzero(hidden[rows])
        assert len(places) == count
        assert (np.diff(places) == 1).all()
    np.testing.assert_array_equal(script.hide(track, seconds), hidden)


def test_smoothing_helps_where_noise_is_all_there_is_to_remove(tmp_path):
    """Labels that stay as they are within a video, and logits of much noise."""
    arrays = predictions("a")
    labels = np.repeat(np.random.default_rng(0).integers(0, 2, (16, 3)), 12, axis=0).astype(np.int8)
    logits = (2.0 * labels - 1 + np.random.default_rng(1).normal(0, 2, labels.shape)).astype(np.float32)
    run = write_run(tmp_path, "a", arrays={**arrays, "labels": labels, "logits": logits})
    lines, _ = script.measure([script.read_run(run)], 2.0)
    found = {line.option: line.difference for line in lines}
    assert 0 < found["centred, 1 s"].value < found["centred, 2 s"].value
    assert found["centred, 2 s"].low > 0
    assert found[script.GAPS].value < 0 < found["hidden frames: interpolated"].value


def test_table_is_printed_and_written_and_runs_stay_as_they_are(runs, tmp_path, monkeypatch, capsys):
    before = {file: file.stat().st_mtime_ns for run in runs for file in run.iterdir()}
    command(monkeypatch, *runs, "--fps", 2, "--out", tmp_path / "out")
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    text = (tmp_path / "out" / "table.md").read_text()
    assert capsys.readouterr().out.startswith(text)
    options = [*script.OPTIONS, script.GAPS, *script.FILLS]
    assert [row["option"] for row in table["rows"]] == options
    assert all(f"| {option} | " in text for option in options)
    assert (table["row"], table["seeds"], table["groups"], table["frames_per_second"]) == (
        "a",
        [0, 1],
        8,
        2.0,
    )
    assert table["provenance"]["commits"] == ["abc1234"]
    assert table["provenance"]["data_fingerprint"] == "train:0-val:1"
    assert {file: file.stat().st_mtime_ns for run in runs for file in run.iterdir()} == before


def test_what_cannot_be_compared_is_refused(runs, tmp_path, monkeypatch):
    other = write_run(tmp_path / "sweep", "b")
    cells = [script.read_run(run) for run in (runs[0], other)]
    with pytest.raises(RunError, match="are not different seeds of one row"):
        script.measure(cells, 2.0)
    with pytest.raises(RunError, match="are not different seeds"):
        script.measure([cells[0], cells[0]], 2.0)
    with pytest.raises(SystemExit, match=r"aunet: .*nowhere is no finished run"):
        command(monkeypatch, tmp_path / "nowhere")
    (runs[0] / "config.yaml").write_text("data: {prepare: {stride: 15}}\n")
    assert script.frame_rate(cells[0]) == 2
    (runs[0] / "config.yaml").write_text("data: {}\n")
    with pytest.raises(SystemExit, match="give the frame rate of its videos by --fps"):
        command(monkeypatch, runs[0])


def test_options_differ():
    options = {**script.OPTIONS, **script.FILLS}
    assert len(set(options.values())) == len(options)
    assert Postprocess() not in options.values()
