"""Rows on disk while a prediction goes on: what has finished survives whatever ends the process.

    OUT.partial/
      job.json     what the rows are: network, options, columns
      rows.bin     records, appended
      done.jsonl   one line for each input that has finished: its key, its rows, and what was wrong with it

A row counts from the moment in which its input's line is whole; what comes after is cut off.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from aunet.files import write_json
from aunet.runs import RunError, read_json

_CHUNK = 1 << 14
_SECONDS_BETWEEN_SYNCS = 1.0
"""More often, pictures would wait for the disk."""


@dataclass(frozen=True)
class Span:
    """Neighbouring rows of one name.

    Attributes:
        name: Of the input.
        first, last: Of its rows; ``last`` is not among them.
    """

    name: str
    first: int
    last: int


@dataclass(frozen=True)
class Finished:
    """An input that has been predicted.

    Attributes:
        spans: Its rows.
        problem: What was wrong with it, for instance that it was cut off; None if nothing was.
    """

    spans: tuple[Span, ...]
    problem: str | None = None


class Spool:
    """Appends rows, and knows which inputs have finished.

    Args:
        folder: Made if it is missing; an interrupted prediction's goes on.
        dtype: Of the records.
        job: What fixes the rows beside the inputs.

    Attributes:
        done: Inputs that have finished, by key.
        pending: Rows of the input at work.

    Raises:
        RunError: The folder holds rows of another job.
    """

    def __init__(self, folder: Path, dtype: np.dtype[Any], job: Mapping[str, Any]) -> None:
        self.folder = folder
        self.dtype = dtype
        self.done: dict[str, Finished] = {}
        folder.mkdir(exist_ok=True)
        known = read_json(folder / "job.json", f"remove {folder}")
        if known is None:
            if strange := [path.name for path in folder.iterdir() if not path.name.startswith(".")]:
                raise RunError(f"{folder} is in the way: {strange[0]} in it was not left by a prediction")
            write_json(folder / "job.json", job)
        elif known != dict(job):
            changed = [key for key in {*known, *job} if known.get(key) != job.get(key)]
            raise RunError(
                f"{folder} holds an interrupted prediction with another {', '.join(sorted(changed))}: remove "
                "it, or give the arguments that it was made with"
            )
        self.pending: list[Span] = []
        self._finished: dict[str, Finished] = {}
        self._synced = time.monotonic()
        self._count = self._recover()
        self._rows = (folder / "rows.bin").open("ab")
        self._rows.truncate(self._count * dtype.itemsize)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._finished:
                self._sync()
        finally:
            self._rows.close()
        if kind is not None and not self.done:  # nothing that another call could go on from
            shutil.rmtree(self.folder, ignore_errors=True)

    def append(self, name: str, rows: npt.NDArray[np.void]) -> None:
        """Adds rows of the input at work."""
        if not len(rows):
            return
        self._rows.write(rows.tobytes())
        first, self._count = self._count, self._count + len(rows)
        if self.pending and self.pending[-1].name == name:
            first = self.pending.pop().first
        self.pending.append(Span(name, first, self._count))

    def take(self) -> list[tuple[str, npt.NDArray[np.void]]]:
        """Takes back the rows of the input at work: those of each name, to be appended in another form."""
        self._rows.flush()
        taken = [(span.name, self._read(span.first, span.last)) for span in self.pending]
        self._count -= sum(len(rows) for _, rows in taken)
        self._rows.truncate(self._count * self.dtype.itemsize)
        self.pending = []
        return taken

    def finish(self, key: str, problem: str | None) -> None:
        """Declares the input at work finished."""
        self._finished[key] = self.done[key] = Finished(tuple(self.pending), problem)
        self.pending = []
        if time.monotonic() - self._synced > _SECONDS_BETWEEN_SYNCS:
            self._sync()

    def _sync(self) -> None:
        """Brings what has finished to the disk: its rows first."""
        self._rows.flush()
        os.fsync(self._rows.fileno())
        with (self.folder / "done.jsonl").open("a") as file:
            for key, finished in self._finished.items():
                spans = [[span.name, span.first, span.last] for span in finished.spans]
                file.write(json.dumps({"key": key, "spans": spans, "problem": finished.problem}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._finished = {}
        self._synced = time.monotonic()

    def _read(self, first: int, last: int) -> npt.NDArray[np.void]:
        offset = first * self.dtype.itemsize
        return np.fromfile(self.folder / "rows.bin", self.dtype, last - first, offset=offset)

    def chunks(self, keys: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.void]]]:
        """The rows of finished inputs in their order, some thousands at once, with the name of each chunk."""
        self._rows.flush()
        for key in keys:
            for span in self.done[key].spans:
                for start in range(span.first, span.last, _CHUNK):
                    yield span.name, self._read(start, min(start + _CHUNK, span.last))

    def rows(self, key: str) -> Iterator[npt.NDArray[np.void]]:
        """The rows of a finished input in their order, some thousands at once."""
        return (rows for _, rows in self.chunks([key]))

    def remove(self) -> None:
        """Removes the folder: its rows are elsewhere."""
        self._finished = {}
        shutil.rmtree(self.folder)

    def _recover(self) -> int:
        """Reads what had finished; the number of rows that belong to it."""
        journal, rows = self.folder / "done.jsonl", self.folder / "rows.bin"
        if not journal.exists() or not rows.exists():
            journal.unlink(missing_ok=True)
            return 0
        there = rows.stat().st_size // self.dtype.itemsize
        whole, end = [], 0
        for line in journal.read_text().splitlines(keepends=True):
            try:
                entry = json.loads(line) if line.endswith("\n") else None
            except ValueError:
                entry = None
            if entry is None or any(last > there for _, _, last in entry["spans"]):
                break
            spans = tuple(Span(*span) for span in entry["spans"])
            self.done[entry["key"]] = Finished(spans, entry["problem"])
            end = max([end, *(span.last for span in spans)])
            whole.append(line)
        journal.write_text("".join(whole))
        return end
