"""The script behind ``make table1``, on tiny data: every row, the table, and a second call."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "experiments" / "reproduce_table1.py"
ROWS = [
    "baseline", "resnet50", "inception_v3", "efficientnet", "efficientnet_lite0",
    "without_attention", "without_reweighting", "ours",
]  # fmt: skip


def reproduce(root: Path, cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), "data=affwild2", f"data.root={root}", "weights=none", "epochs=1",
         "batch_size=4", "hydra/launcher=basic", "host.threads=1", "progress=false", *overrides],
        cwd=cwd, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def first(affwild2, tmp_path_factory):
    cwd = tmp_path_factory.mktemp("table1")
    return cwd, reproduce(affwild2, cwd)


def test_every_row_is_in_the_table_in_the_papers_order(first):
    cwd, done = first
    assert done.returncode == 0, done.stdout + done.stderr
    table = json.loads((cwd / "runs" / "table1" / "table.json").read_text())
    assert [row["row"] for row in table["rows"]] == ROWS
    for row in table["rows"]:
        assert row.keys() >= {"row", "seeds", "f1", "f1_per_au", "paper_f1", "data", "from_scratch"}
        assert row["seeds"] == [0]
        assert row["data"] == "affwild2"
        assert row["from_scratch"] == (row["row"] != "efficientnet_lite0")
        assert row["f1"] == pytest.approx(sum(row["f1_per_au"].values()) / 12)
    assert table["rows"][-1]["paper_f1"] == 0.4803
    assert "trivial predictor, every AU present" in done.stdout
    assert "0.4803" in (cwd / "runs" / "table1" / "table.md").read_text()


def test_second_call_trains_nothing_and_prints_the_same_table(first, affwild2):
    cwd, done = first
    before = {path: path.stat().st_mtime_ns for path in cwd.glob("runs/table1/*/seed0/*.npz")}
    again = reproduce(affwild2, cwd)
    assert again.returncode == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    table = done.stdout[done.stdout.index("┏") :]
    assert table in again.stdout
    assert "epoch 1/1" not in again.stdout


def test_failed_row_is_named_and_the_others_are_in_the_table(first, affwild2):
    cwd, _ = first
    config = cwd / "runs" / "table1" / "ours" / "seed0" / "config.yaml"
    original = config.read_text()
    config.write_text(original.replace("seed: 0", "seed: 5"))
    done = reproduce(affwild2, cwd)
    config.write_text(original)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "holds a run with another configuration" in done.stderr
