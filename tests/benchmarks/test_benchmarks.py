"""The benchmarks run, on tiny data, and write what their readers look for: ``make test-bench``.

No time is asserted.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def bench(affwild2, tmp_path):
    """Runs a benchmark in its quick mode on the tiny data set; gives its JSON file and its tables."""

    def run(script: str, name: str, *more: str) -> tuple[dict, str]:
        arguments = [
            "--quick",
            "--source",
            affwild2,
            "--folder",
            tmp_path / "data",
            "--out",
            tmp_path / "out",
            *more,
        ]
        done = subprocess.run(
            [sys.executable, BENCHMARKS / script, *arguments],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # two test processes share the cores
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == (tmp_path / "out" / f"{name}.md").read_text().strip()
        assert not [path for path in tmp_path.rglob(".*") if path.suffix != ".lock"]  # no draft is left
        return json.loads((tmp_path / "out" / f"{name}.json").read_text()), done.stdout

    return run


def test_data(bench):
    found, text = bench("data.py", "data")

    names = {
        "packed_vs_usual_0_workers", "packed_vs_usual_2_workers", "packed_float_vs_usual_0_workers",
        "decoded_vs_usual_0_workers", "files_vs_usual_0_workers", "packed_vs_torchvision_decoder",
    }  # fmt: skip
    formats = {"files", "tar", "packed", "decoded"}
    if find_spec("webdataset"):
        names |= {f"{what}_vs_webdataset{kind}" for what in ("cpu", "wall") for kind in ("", "_pil")}
    if find_spec("litdata"):
        names |= {"cpu_vs_litdata", "wall_vs_litdata"}
        formats |= {"litdata"}
    assert names <= set(found["ratios"])
    assert all(value > 0 for value in found["ratios"].values())
    assert set(found["ratio_ranges"]) == set(found["ratios"])
    assert all(low <= found["ratios"][name] <= high for name, (low, high) in found["ratio_ranges"].items())
    assert set(found["scale"]) == {"1000", "20000"}
    for of in found["scale"].values():
        assert {"open_s", "rss_mb", "first_batch_s", "frames_per_s"} <= set(of)
    assert 0 <= found["data_wait_share"] < 1
    assert set(found["bytes_per_frame"]) == formats
    assert {"frames_per_s", "cpu_us"} <= set(found["loaders"]["usual_2_workers"])
    assert found["host"]["packages"]["torch"]
    assert all(name in text for name in names)


def test_train(bench):
    found, text = bench("training.py", "train")

    assert set(found["ratios"]) == {"step/convnet", "epoch/ours", "overhead/bare_loop"}
    assert all(value > 0 for value in found["ratios"].values())
    assert set(found["seconds"]["overhead/bare_loop"]) == {"ours", "bare"}
    assert found["host"]["cores"] >= 1
    assert "overhead/bare_loop" in text


def test_launchers(bench):
    found, text = bench("launchers.py", "launchers")
    assert set(found["table1"]) == {"serial", "local"}
    assert all(seconds > 0 for side in found["table1"].values() for seconds in side)
    assert set(found["overhead"]["local"]) == {"row", "once"}
    assert "| serial |" in text


def test_predict(bench):
    pytest.importorskip("onnxruntime", reason="the extra export is not installed")
    pytest.importorskip("onnxscript", reason="the extra export is not installed")
    found, text = bench("predict.py", "predict", "--profile")
    sides = {"stock", "eager", "channels_last", "folded", "onnx", "int8"}
    network = found["network"]
    for batch in ("1", "4"):
        assert set(network["ratios"][batch]) == set(network["frames_per_s"][batch]) == sides
        assert network["ratios"][batch]["stock"] == 1
        assert all(value > 0 for value in network["ratios"][batch].values())
        spent = network["operators"][batch]
        assert set(spent) == sides
        assert {"QLinearConv"} < set(spent["int8"])
        assert all(seconds > 0 for seconds in spent["onnx"].values())
        assert "aten::batch_norm" in spent["eager"]
        assert "aten::batch_norm" not in spent["folded"]
    assert {"val_f1_floats", "val_f1_int8"} <= set(found["files"]["int8"])
    assert all(f", {side} |" in text for side in sides)


def test_logging(bench):
    found, text = bench("loggers.py", "logging")
    assert set(found["seconds"]) == {"csv", "none", "dynamics", "no dynamics"}
    assert set(found["cost"]) == {"csv", "dynamics"}
    for name, (low, high) in found["cost_ranges"].items():
        assert -1 < low <= found["cost"][name] <= high
        assert 0 < found["calls"][name] < 1
    assert all(f"| {name} |" in text for name in found["seconds"])
