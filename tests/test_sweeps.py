"""Sweeps on one machine: kills of every kind, two at once, a full disk, and failing rows.

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
from layouts import write_affwild2

from aunet.cells import State, read_cells
from aunet.results import read_table
from aunet.tables import as_json

KILLS = int(os.environ.get("AUNET_KILLS", "3"))
TRAIN = Path(__file__).parent.parent / "experiments" / "train.py"
ROWS = ("ours", "without_attention")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Enough steps that a run lasts a few seconds."""
    return write_affwild2(tmp_path_factory.mktemp("data"), videos=(6, 3), frames=(16, 12))


def command(data: Path, runs: Path, *overrides: str, launcher: str = "local") -> list[str]:
    return [
        sys.executable, str(TRAIN), "--multirun", "seed=0,1", f"hydra/launcher={launcher}",
        f"experiment={','.join(f'table1/{row}' for row in ROWS)}", "data=affwild2", f"data.root={data}",
        f"runs={runs}", "weights=none", "logger=none", "batch_size=4", "epochs=2", "bn_momentum=0.1",
        "backbone.filters=[4,4,4,4,8,8]", "checkpoint_minutes=0", "host.threads=1", "progress=false",
        *overrides,
    ]  # fmt: skip


def start(log: Path, words: list[str]) -> subprocess.Popen[bytes]:
    """In a session of its own, so that its processes can be found and killed together."""
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)


def session(leader: int) -> dict[int, tuple[int, str]]:
    """Living processes of a session: {pid: (parent, command line)}."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            words = (folder / "cmdline").read_text().replace("\0", " ")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader and fields[0] != "Z":
            found[int(folder.name)] = (int(fields[1]), words)
    return found


def workers(leader: int) -> list[int]:
    """The rows' processes: children of the process that multiprocessing forks them from."""
    living = session(leader)
    servers = {pid for pid, (_, words) in living.items() if "multiprocessing.forkserver" in words}
    servers = {pid for pid in servers if living[pid][0] not in servers}
    return [pid for pid, (parent, _) in living.items() if parent in servers]


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file of a run."""
    return {f.name: (f.stat().st_mtime_ns, f.stat().st_size) for f in folder.iterdir()}


def finished(sweep: Path) -> dict[Path, dict[str, tuple[int, int]]]:
    """The files of each finished run."""
    return {cell.folder: contents(cell.folder) for cell in read_cells(sweep) if cell.state is State.DONE}


def result(sweep: Path) -> list[dict]:
    """The table, without what depends on the clock."""
    rows = json.loads(as_json(read_table(sweep)))["rows"]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


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
        kind = self.draw.choice(["worker", "worker", "launcher", "group"])
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


def test_row_that_is_killed_again_and_again_fails_alone(data, tmp_path):
    """And is told at the end with its reason and log; the next call goes on with it."""
    log = tmp_path / "log"
    process = start(log, command(data, tmp_path, "hydra.launcher.restarts=0"))
    deadline = time.monotonic() + 120
    while not (tmp_path / "table1" / "ours" / "seed0" / "last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    owner = json.loads((tmp_path / "table1" / "ours" / "seed0" / ".owner.json").read_text())
    os.kill(owner["pid"], signal.SIGKILL)
    assert process.wait(timeout=280) == 1
    said = log.read_text()
    assert "1 of 4 runs did not succeed:" in said
    assert "ours seed 0: its process was killed by signal 9 (was the system short of memory?) (log: " in said
    assert "Traceback" not in said
    states = {(cell.row, cell.seed): cell.state for cell in read_cells(tmp_path / "table1")}
    assert states.pop(("ours", 0)) is State.FAILED
    assert set(states.values()) == {State.DONE}
    before = finished(tmp_path / "table1")
    assert start(log, command(data, tmp_path)).wait(timeout=280) == 0
    assert "ours seed 0: goes on from its last checkpoint" in log.read_text()
    after = finished(tmp_path / "table1")
    assert len(after) == 4
    assert after.items() >= before.items()


@pytest.mark.parametrize("launcher", ["local", "basic"])
def test_every_failing_row_is_listed_and_stops_no_other(launcher, data, tmp_path):
    """Two rows that the user has to mend, one error that nobody expects."""
    words = command(data, tmp_path, "lr=1e-3,1e30", "sweep=lr${lr}", "seed=0", launcher=launcher)
    words[words.index("seed=0,1")] = "epochs=1"
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


def test_full_disk_costs_nothing_that_was_finished(data, tmp_path):
    """A file system that is full while a run writes its checkpoints; with room again, the run goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted: {mounted.stderr.strip()}")
    try:
        words = command(data, disk, "hydra.launcher.processes=1")
        first = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        said = first.stdout + first.stderr
        assert first.returncode == 1
        assert "No space left on device" in said, said
        assert "make room and give the same command again" in said
        assert "Traceback" not in said
        before = finished(disk / "table1")
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        second = subprocess.run(words, capture_output=True, text=True, timeout=280, check=False)
        assert second.returncode == 0, second.stdout + second.stderr
        after = finished(disk / "table1")
        assert len(after) == 4
        assert after.items() >= before.items()
    finally:
        subprocess.run(["umount", str(disk)], check=True)
