"""Uploads wandb runs that are not on the server: offline ones, and those that lost it midway."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import wandb

from aunet.cells import State, read_cells
from aunet.progress import progress
from aunet.runs import RunError
from aunet.tracking.attempts import attempts
from aunet.tracking.on_wandb import SYNCED

AT_ONCE = 4
"""Runs that are uploaded side by side."""

SECONDS = 600
"""After which the upload of a run is given up."""

_PATIENCE = {"WANDB__GRAPHQL_RETRY_MAX": "4"}
"""About half a minute where nobody answers; wandb itself would try for hours."""


@dataclass(frozen=True)
class Attempt:
    """A wandb run, as it lies in a run folder.

    Attributes:
        name: Of the attempt: sweep, row, seed and its id.
        file: All that was logged.
    """

    name: str
    file: Path

    @property
    def mark(self) -> Path:
        """The file that is there once all is on the server."""
        return Path(f"{self.file}{SYNCED}")


def find_attempts(sweeps: Sequence[str | Path], unfinished: bool = False) -> list[Attempt]:
    """The attempts that a server may get: of each finished run the one that finished it.

    Args:
        sweeps: Folders ``runs/<sweep>``.
        unfinished: Also all others, but for those of runs at work.

    Raises:
        RunError: A file of a sweep is damaged.
    """
    found = []
    for sweep in map(Path, sweeps):
        for cell in read_cells(sweep):
            if cell.state is State.RUNNING or not (unfinished or cell.state is State.DONE):
                continue
            last = f"-a{attempts(cell.folder)}"  # of a finished run, the one that finished it
            for file in sorted(cell.folder.glob("wandb/*run-*/run-*.wandb")):
                if unfinished or file.stem.endswith(last):
                    name = f"{sweep.name}/{cell.row}/seed{cell.seed} ({file.stem.removeprefix('run-')})"
                    found.append(Attempt(name, file))
    return found


def upload(found: Sequence[Attempt]) -> dict[Attempt, str]:
    """Uploads attempts to wandb.

    Args:
        found: Those to be uploaded.

    Returns:
        For each what went wrong; "" where nothing did.

    Raises:
        RunError: No key is set.
    """
    for setting in ("WANDB_MODE", "WANDB_SILENT", "WANDB_QUIET"):  # of runs that are made
        os.environ.pop(setting, None)
    if found and not wandb.login(prompt=False, verify=False):
        raise RunError("wandb has no key: set WANDB_API_KEY, or give `wandb login` once")
    with progress("uploading", len(found), "runs") as advance, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(attempt: Attempt) -> str:
            said = _upload(attempt)
            advance(1)
            return said

        return dict(zip(found, pool.map(one, found), strict=True))


def _upload(attempt: Attempt) -> str:
    command = [sys.executable, "-m", "wandb", "sync", "--include-online", str(attempt.file)]
    beside = {"WANDB_DIR": str(attempt.file.parents[2])}  # its own log, which it would leave where we are
    try:
        done = subprocess.run(  # noqa: S603 - wandb's own command line
            command, env=os.environ | _PATIENCE | beside, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"given up after {SECONDS} s"
    said = [line for line in done.stderr.splitlines() if "ERROR" in line]
    if said:  # it ends with 0 all the same, where a run was cut off
        attempt.mark.unlink(missing_ok=True)
    elif not attempt.mark.exists():
        said = done.stderr.splitlines()[-1:] or [f"ended with {done.returncode} without a word"]
    return " ".join(said)
