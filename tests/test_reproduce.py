"""The script behind ``make table1``, on tiny data: rows, table, a second call, failures, and kill -9."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aunet.config import CONF
from aunet.results import TABLE1

SCRIPT = Path(__file__).parent.parent / "experiments" / "reproduce_table1.py"

ON_DISK = {path.stem for path in CONF.glob("experiment/table1/*.yaml")}
ROWS = [*TABLE1, *sorted(ON_DISK - set(TABLE1))]


def command(root: Path, *overrides: str) -> list[str]:
    return [
        sys.executable, str(SCRIPT), "data=affwild2", f"data.root={root}", "weights=none", "epochs=1",
        "batch_size=4", "logger=none", *overrides,
    ]  # fmt: skip


def reproduce(root: Path, cwd: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(root, *overrides), cwd=cwd, capture_output=True, text=True, timeout=280, check=False
    )


def finished(cwd: Path) -> dict[str, int]:
    """Rows that have finished, and when."""
    return {path.parts[-3]: path.stat().st_mtime_ns for path in cwd.glob("runs/table1/*/seed0/metrics.json")}


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
    assert {row["row"]: row["paper_f1"] for row in table["rows"]}["ours"] == 0.4803
    assert "trivial predictor, every AU present" in done.stdout
    assert "0.4803" in (cwd / "runs" / "table1" / "table.md").read_text()


def test_second_call_trains_nothing_and_prints_the_same_table(first, affwild2):
    cwd, done = first
    before = finished(cwd)
    again = reproduce(affwild2, cwd)
    assert again.returncode == 0
    assert finished(cwd) == before
    table = done.stdout[done.stdout.index("┏") :]
    assert table in again.stdout
    assert "epoch 1/1" not in again.stdout


def test_every_failing_row_is_named_and_the_others_are_in_the_table(first, affwild2):
    cwd, _ = first
    for row in ("ours", "resnet50"):
        metrics = cwd / "runs" / "table1" / row / "seed0" / "metrics.json"
        metrics.rename(metrics.with_suffix(".old"))
    before = finished(cwd)
    done = reproduce(affwild2, cwd, "lr=1e30")
    for row in ("ours", "resnet50"):
        metrics = cwd / "runs" / "table1" / row / "seed0" / "metrics.json"
        metrics.with_suffix(".old").rename(metrics)
        assert f"{row} seed 0: " in done.stdout
    assert finished(cwd).items() >= before.items()
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "holds a run with another configuration: lr: 0.001 -> 1e+30" in done.stdout
    assert "NOT FINISHED: resnet50/seed0, ours/seed0" in done.stdout
    table = json.loads((cwd / "runs" / "table1" / "table.json").read_text())
    assert [row["row"] for row in table["rows"]] == [r for r in ROWS if r not in ("ours", "resnet50")]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("data=afwild2", "Could not find 'data/afwild2'"),
        ("nosuchkey=1", "nosuchkey"),
        ("lr=[", "aunet: lr=[: "),
        ("data.root=/nowhere", "data.root=/nowhere is not a folder"),
    ],
)
def test_misspelt_options_end_in_a_sentence(override, said, tmp_path, affwild2):
    done = reproduce(affwild2, tmp_path, "hydra/launcher=basic", override)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout + done.stderr
    assert said in done.stdout + done.stderr


def children(pid: int) -> list[int]:
    """Processes that a process has started, where the system tells (Linux)."""
    file = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in file.read_text().split()] if file.exists() else []


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_killed_sweep_goes_on_and_trains_no_finished_row_again(affwild2, tmp_path):
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command(affwild2), cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 200
        while len(finished(tmp_path)) < 3 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        workers = children(process.pid)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 20
    while any(map(runs, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(runs, workers))
    before = finished(tmp_path)
    assert 3 <= len(before) < len(ROWS), (tmp_path / "log").read_text()
    done = reproduce(affwild2, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    after = finished(tmp_path)
    assert sorted(after) == sorted(ROWS)
    assert after.items() >= before.items()
    for row in before:
        provenance = tmp_path / "runs" / "table1" / row / "seed0" / "provenance.json"
        assert len(json.loads(provenance.read_text())["attempts"]) == 1
