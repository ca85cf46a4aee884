"""Checks the rows of a manifest, and keeps those that are well-formed as columns."""

import math
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from aunet.data.faults import Faults
from aunet.data.manifest_files import Chunk, UnreadableError, read_chunks
from aunet.facs import au_column

SPLITS = ("train", "val", "test")
_PATH = re.compile(
    r"(?![A-Za-z]:)(?:(?!\.{1,2}/)[^/\\\0]+/)*[^/\\\0]+\.(?:jpe?g|png|bmp)", re.IGNORECASE | re.DOTALL
)
_FRAME = re.compile(r"(\d{1,9})(?:\.0)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.0*)?", re.ASCII)

_BAD = -2
# As text, or as Parquet's numbers and truth values; 1.0 is how pandas writes labels where some are missing.
_LABELS: dict[Any, int] = {"": -1, None: -1, "-1": -1, "-1.0": -1, -1: -1, 0: 0, 1: 1}
_LABELS |= {"0": 0, "0.0": 0, "1": 1, "1.0": 1}

_Problem = tuple[int, str, str]
"""A row, the kind of its fault, and what it is."""


@dataclass
class Rows:
    """The well-formed rows of a manifest, in its order.

    Attributes:
        paths: Picture of each, relative, with ``/``.
        videos: Index of each video's name in the column "video".
        subjects: Index of each subject's name in the column "subject".
        faulty: Number of rows left out.
        parts: Arrays by column, for some rows each: "lines" (of CSV where the row begins, from 1 with the
            header; of Parquet the row, from 1), "labels" (N, num_aus) in {0, 1, -1}, "video", and where the
            manifest has them "subject", "frame", and "split", an index into SPLITS.
    """

    paths: list[str] = field(default_factory=list)
    videos: dict[str, int] = field(default_factory=dict)
    subjects: dict[str, int] = field(default_factory=dict)
    faulty: int = 0
    parts: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)

    def column(self, name: str) -> npt.NDArray[Any] | None:
        """(N, ...) one of the columns of ``parts``; None where the manifest has no such column."""
        return np.concatenate([part[name] for part in self.parts]) if name in self.parts[0] else None


def read_rows(file: Path, aus: Sequence[int], faults: Faults) -> Rows | None:
    """Reads a manifest.

    Args:
        file: CSV in UTF-8 or, by its suffix, Parquet.
        aus: AUs wanted, in the order wanted.
        faults: Receives what is wrong.

    Returns:
        Its well-formed rows; None if there is something wrong with its columns or it cannot be read.

    Raises:
        DataError: It is Parquet, and pyarrow is not installed.
    """
    rows = Rows()
    try:
        for chunk in read_chunks(file, aus, faults):
            _add(file, chunk, aus, rows, faults)
    except UnreadableError as error:
        faults.add(error.kind, file, error.detail, error.line)
        return None
    if not rows.parts:
        return None
    if not rows.paths and not rows.faulty:
        faults.add("no-rows", file)
    return rows


def _add(file: Path, chunk: Chunk, aus: Sequence[int], rows: Rows, faults: Faults) -> None:
    """Checks some rows and appends those that are well-formed."""
    cells = {
        name: [*map(str.strip, column)] for name, column in chunk.cells.items() if not name.startswith("AU")
    }
    paths = [path.removeprefix("./") for path in cells["path"]]
    columns = [chunk.cells[au_column(au)] for au in aus]
    part: dict[str, npt.NDArray[Any]] = {"lines": chunk.lines, "labels": _labels(columns, len(paths))}
    problems = [*_wrong_paths(paths)]
    if "split" in cells:
        splits = [split.lower() for split in cells["split"]]
        part["split"] = np.array([SPLITS.index(s) if s in SPLITS else _BAD for s in splits], np.int8)
        problems += [
            (row, "unknown-split", f"split {splits[row][:40]!r} is not train, val or test")
            for row in _bad(part["split"])
        ]
    if "frame" in cells:
        matches = map(_FRAME.fullmatch, cells["frame"])
        part["frame"] = np.array([int(match[1]) if match else _BAD for match in matches], np.int64)
        problems += [
            (row, "not-integer", f"frame {cells['frame'][row][:40]!r} is not a number of up to 9 digits")
            for row in _bad(part["frame"])
        ]
    problems += _wrong_labels(part["labels"], columns, aus)
    names = {name: cells[name] for name in ("video", "subject") if name in cells}
    for name, texts in names.items():
        problems += [(row, "bad-name", f"the {name} is empty") for row, text in enumerate(texts) if not text]
    good = _record(file, chunk.lines, problems, faults)
    kept = np.flatnonzero(good).tolist()
    names.setdefault("video", [posixpath.dirname(path) or "." for path in paths])
    part = {name: column[good] for name, column in part.items()}
    for name, known in (("video", rows.videos), ("subject", rows.subjects)):
        if name in names:
            texts = names[name]
            part[name] = np.array([known.setdefault(texts[row], len(known)) for row in kept], np.int32)
    rows.paths += [paths[row] for row in kept]
    rows.faulty += chunk.malformed + len(paths) - len(kept)
    rows.parts.append(part)


def _record(
    file: Path, lines: npt.NDArray[np.int64], problems: Sequence[_Problem], faults: Faults
) -> npt.NDArray[np.bool_]:
    """(N,) whether a row is without a problem; records the first of each."""
    good = np.ones(len(lines), bool)
    for row, kind, detail in sorted(problems, key=lambda problem: problem[0]):
        if good[row]:
            good[row] = False
            faults.add(kind, file, detail, int(lines[row]))
    return good


def _bad(codes: npt.NDArray[Any]) -> list[int]:
    return [int(row) for row in np.flatnonzero(codes == _BAD)]


def _wrong_paths(paths: Sequence[str]) -> Iterator[_Problem]:
    for row, path in enumerate(paths):
        if not _PATH.fullmatch(path):
            yield (
                row,
                "bad-name",
                f"path {path[:80]!r} does not lead to a .jpg, .png or .bmp within the folder",
            )


def _labels(columns: Sequence[Sequence[Any]], rows: int) -> npt.NDArray[np.int8]:
    """(N, num_aus) labels; _BAD where a cell is none."""
    labels = np.empty((rows, len(columns)), np.int8)
    for index, cells in enumerate(columns):
        codes = np.fromiter((_LABELS.get(cell, _BAD) for cell in cells), np.int8, rows)
        for row in _bad(codes):
            cell = cells[row]
            if isinstance(cell, str):
                codes[row] = _LABELS.get(cell.strip(), _BAD)
            elif isinstance(cell, float) and math.isnan(cell):
                codes[row] = -1
        labels[:, index] = codes
    return labels


def _wrong_labels(
    labels: npt.NDArray[np.int8], columns: Sequence[Sequence[Any]], aus: Sequence[int]
) -> Iterator[_Problem]:
    for row, column in np.argwhere(labels == _BAD).tolist():
        cell = str(columns[column][row]).strip()
        kind = "out-of-range" if _NUMBER.fullmatch(cell) else "not-integer"
        yield row, kind, f"{au_column(aus[column])} is {cell[:40]!r}, not 0, 1, -1 or empty"
