"""Rows of a sweep on a cluster, seen from outside: the command, a row's process, what its folder says."""

import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
SMALL = (
    "experiment=table1/ours", "data=affwild2", "batch_size=4", "weights=none", "logger=none",
    "progress=false", "host.threads=1", "host.keep_large_blocks=false", "backbone.filters=[4,4,4,4,4,4]",
)  # fmt: skip
"""Of the tiny data set; add data.root."""


@dataclass
class Sweep:
    """A call of experiments/train.py that is under way."""

    process: subprocess.Popen[bytes]
    log: Path

    def until(self, condition: Callable[[], object], seconds: float = 600) -> None:
        """Waits until a condition holds, as long as it runs."""
        eventually(lambda: condition() or self.process.poll() is not None, seconds)
        assert self.process.poll() is None, "the sweep has ended"

    def end(self, seconds: float = 600) -> tuple[int, str]:
        """Waits for it; exit code and output."""
        return self.process.wait(seconds), self.log.read_text()


@contextmanager
def sweep(*overrides: str, cwd: Path, env: Mapping[str, str]) -> Iterator[Sweep]:
    """Starts experiments/train.py, and ends it at the latest with the block; a failure shows its output."""
    handle, log = tempfile.mkstemp(dir=cwd, prefix="sweep-", suffix=".log")
    with os.fdopen(handle, "w") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "experiments" / "train.py"), "--multirun", *SMALL, *overrides],
            cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        yield Sweep(process, Path(log))
    except BaseException:
        print(Path(log).read_text())  # noqa: T201 - pytest shows it
        raise
    finally:
        process.kill()
        process.wait()


def worker(folder: Path) -> int:
    """The process that works on a row."""
    owner = json.loads((folder / ".owner.json").read_text())
    assert owner["host"] == platform.node()
    return int(owner["pid"])


def eventually(condition: Callable[[], object], seconds: float = 60) -> None:
    """Waits until a condition holds; one that raises an error for a failed command does not hold yet."""
    deadline = time.monotonic() + seconds
    said: object = "the condition did not hold"
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except subprocess.CalledProcessError as error:
            said = f"{error}: {error.stdout}{error.stderr}"
        time.sleep(0.3)
    raise TimeoutError(f"after {seconds} s: {said}")


def attempts(folder: Path) -> list[dict[str, Any]]:
    """What each attempt at a row ran on."""
    recorded: list[dict[str, Any]] = json.loads((folder / "provenance.json").read_text())["attempts"]
    return recorded


def assert_same_run(one: Path, other: Path) -> None:
    """Two rows have been trained alike, bit by bit, in every epoch."""
    with np.load(one / "predictions.npz") as a, np.load(other / "predictions.npz") as b:
        np.testing.assert_array_equal(a["logits"], b["logits"])
    first, second = (
        [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in csv.DictReader((folder / "history.csv").read_text().splitlines())
        ]
        for folder in (one, other)
    )
    assert first == second
