"""Sweeps on one machine: a row that is killed, failing rows, and a full disk. See also test_chaos.py."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweeping import ROWS, command, finished, start, write_data

from aunet.cells import State, read_cells

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs SIGKILL and mount")


def test_row_that_is_killed_again_and_again_fails_alone(tmp_path):
    """And is told at the end with its reason and log; the next call goes on with it."""
    data, log = write_data(tmp_path / "data"), tmp_path / "log"
    process = start(log, command(data, tmp_path, "hydra.launcher.restarts=0"))
    deadline = time.monotonic() + 120
    while not (tmp_path / "table1" / "ours" / "seed0" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    owner = json.loads((tmp_path / "table1" / "ours" / "seed0" / ".owner.json").read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    assert process.wait(timeout=280) == 1
    said = log.read_text()
    assert "1 of 2 runs did not succeed:" in said
    assert "ours seed 0: its process was killed by signal 9 (was the system short of memory?) (log: " in said
    assert "Traceback" not in said
    states = {(cell.row, cell.seed): cell.state for cell in read_cells(tmp_path / "table1")}
    assert states.pop(("ours", 0)) is State.FAILED
    assert set(states.values()) == {State.DONE}
    before = finished(tmp_path / "table1")
    assert start(log, command(data, tmp_path, launcher="basic")).wait(timeout=280) == 0  # it starts sooner
    assert "ours seed 0: goes on from its last checkpoint" in log.read_text()
    after = finished(tmp_path / "table1")
    assert len(after) == 2
    assert after.items() >= before.items()


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_every_failing_row_is_listed_and_stops_no_other(launcher, affwild2, tmp_path):
    """Two rows that the user has to mend, one error that nobody expects."""
    words = command(affwild2, tmp_path, "lr=1e-3,1e30", "sweep=lr${lr}", "epochs=1", launcher=launcher)
    done = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 1
    assert "2 of 4 runs did not succeed:" in said, said
    for row in ROWS:
        reason = f"{row} seed 0: train/loss is nan in epoch 0: lower lr"
        listed = [line for line in said.splitlines() if line.startswith(f"  {reason}")]
        assert len(listed) == 1, said
        log = Path(listed[0].partition("(log: ")[2].rstrip(")"))
        assert "FloatingPointError" in log.read_text()  # the trace is there
    assert "Traceback" not in said
    assert {cell.state for cell in read_cells(tmp_path / "lr0.001")} == {State.DONE}


def test_full_disk_costs_nothing_that_was_finished(affwild2, tmp_path):
    """A file system that is full while a run writes its checkpoints; with room again, the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=240k", "tmpfs", str(disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        words = command(affwild2, disk, launcher="basic")  # one row after the other
        first = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        said = first.stdout + first.stderr
        assert first.returncode == 1
        assert "No space left on device" in said, said
        assert "make room and give the same command again" in said
        assert "Traceback" not in said
        before = finished(disk / "table1")
        assert [folder.parent.name for folder in before] == [ROWS[0]]
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        second = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        assert second.returncode == 0, second.stdout + second.stderr
        after = finished(disk / "table1")
        assert len(after) == 2
        assert after.items() >= before.items()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
