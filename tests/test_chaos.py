"""Sweeps on one machine whose processes are killed at any moment, and two at once.

``AUNET_KILLS`` says how often the chaos test kills; ``make test-chaos`` asks for more than ``make test``.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sweeping import command, finished, result, session, start, workers, write_data

from aunet.cells import read_cells

KINDS = ("worker", "launcher", "group")
"""What is killed: each as often as the others."""

KILLS = int(os.environ.get("AUNET_KILLS", str(len(KINDS))))
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory) -> Path:
    """The sweep as it should be, by Hydra's own launcher: one run after the other in one process."""
    runs = tmp_path_factory.mktemp("undisturbed")
    done = subprocess.run(
        command(data, runs, launcher="basic"), capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return runs / "table1"


class Chaos:
    """A sweep that is killed again and again, seeded; sees to it that finished runs stay as they are."""

    def __init__(self, words: list[str], sweep: Path, log: Path, seed: int) -> None:
        self.words, self.sweep, self.log = words, sweep, log
        self.draw = random.Random(seed)
        self.killed: list[str] = []
        self.kinds: list[str] = []
        self.kept: dict[Path, dict[str, tuple[int, int]]] = {}
        self.leaders: list[int] = []
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        process = start(self.log, self.words)
        self.leaders.append(process.pid)
        return process

    def look(self) -> None:
        """Compares the finished runs with what they were when they finished."""
        for folder, files in finished(self.sweep).items():
            assert self.kept.setdefault(folder, files) == files, f"{folder} was touched"

    def kill(self) -> None:
        """One of the rows' processes, the launcher, or all at once."""
        rows = workers(self.process.pid)
        if not rows:
            return
        self.kinds = self.kinds or self.draw.sample(KINDS, len(KINDS))
        kind = self.kinds.pop()
        if kind == "worker":
            os.kill(self.draw.choice(rows), signal.SIGKILL)
        elif kind == "launcher":
            self.process.kill()
        else:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.killed.append(kind)

    def forget_one(self) -> None:
        """Removes a finished run, so that there is more to train."""
        cell = self.draw.choice(read_cells(self.sweep))
        self.kept.pop(cell.folder, None)
        shutil.rmtree(cell.folder)

    def rage(self, kills: int) -> None:
        """Kills so often, then lets the sweep end."""
        deadline = time.monotonic() + 240 + 60 * kills
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                if self.process.returncode == 0 and len(self.killed) >= kills:
                    return
                if self.process.returncode == 0:
                    self.forget_one()
                self.process = self.start()
            time.sleep(self.draw.uniform(0.05, 1.5))
            self.look()
            if len(self.killed) < kills and self.process.poll() is None:
                self.kill()
        pytest.fail(f"not finished after {self.killed}: {self.log.read_text()[-4000:]}")


@pytest.mark.timeout(300 + 60 * KILLS)
def test_chaos(data, undisturbed, tmp_path, record_property):
    """The table equals that of the undisturbed sweep, cell for cell, and no process is left."""
    sweep = tmp_path / "runs" / "table1"
    chaos = Chaos(command(data, tmp_path / "runs"), sweep, tmp_path / "log", seed=7)
    chaos.rage(KILLS)
    chaos.look()
    record_property("killed", {kind: chaos.killed.count(kind) for kind in set(chaos.killed)})
    assert result(sweep) == result(undisturbed)
    for cell in read_cells(undisturbed):
        with (
            np.load(cell.folder / "predictions.npz") as expected,
            np.load(sweep / cell.row / f"seed{cell.seed}" / "predictions.npz") as found,
        ):
            for name in expected:
                np.testing.assert_array_equal(found[name], expected[name])
    deadline = time.monotonic() + 30
    while any(map(session, chaos.leaders)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(map(session, chaos.leaders)), "processes have outlived their launcher"


def test_two_sweeps_at_once_share_the_work(data, undisturbed, tmp_path):
    words, logs = command(data, tmp_path), [tmp_path / "log1", tmp_path / "log2"]
    processes = [start(log, words) for log in logs]
    codes = [process.wait(timeout=280) for process in processes]
    assert codes == [0, 0], "".join(log.read_text() for log in logs)[-4000:]
    assert result(tmp_path / "table1") == result(undisturbed)
    for cell in read_cells(tmp_path / "table1"):
        provenance = json.loads((cell.folder / "provenance.json").read_text())
        assert len(provenance["attempts"]) == 1, cell.folder
