"""Starts sweeps as a user does, finds their processes, and says what has finished."""

import json
import subprocess
import sys
from pathlib import Path

from layouts import write_affwild2

from aunet.cells import State, read_cells
from aunet.results import read_table
from aunet.tables import as_json

TRAIN = Path(__file__).parent.parent / "experiments" / "train.py"
ROWS = ("without_attention", "ours")
"""In this order: where the disk is full, the one with the smaller files has finished."""


def write_data(root: Path) -> Path:
    """Enough steps that a run lasts a few seconds."""
    return write_affwild2(root, videos=(6, 3), frames=(16, 12))


def command(data: Path, runs: Path, *overrides: str, launcher: str = "local") -> list[str]:
    """A sweep over both rows."""
    return [
        sys.executable, str(TRAIN), "--multirun", f"hydra/launcher={launcher}",
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
