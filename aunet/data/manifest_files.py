"""Reads a manifest's header and cells, from CSV or Parquet, some thousand rows at once."""

import csv
import difflib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aunet.data.annotations import AU_NAME
from aunet.data.faults import DataError, Faults
from aunet.facs import au_column

OPTIONAL = ("video", "subject", "split", "frame")
"""Columns that a manifest need not have."""

_ROWS_AT_ONCE = 1 << 16
_MISSPELT_AU = re.compile(r"AU[\s_.-]*\d.*", re.IGNORECASE | re.DOTALL)


class Chunk(NamedTuple):
    """Some rows: the line of each, the cells of each wanted column, and how many more were malformed."""

    lines: npt.NDArray[np.int64]
    cells: Mapping[str, Sequence[Any]]
    malformed: int


class UnreadableError(Exception):
    """A file cannot be read on: what is recorded of it."""

    def __init__(self, kind: str, detail: str, line: int | None) -> None:
        super().__init__(detail)
        self.kind, self.detail, self.line = kind, detail, line


def read_chunks(file: Path, aus: Sequence[int], faults: Faults) -> Iterator[Chunk]:
    """Reads a manifest's rows, as text but for Parquet's labels.

    Args:
        file: CSV in UTF-8 or, by its suffix, Parquet.
        aus: AUs wanted.
        faults: Receives what is wrong with the header, and rows of too few or too many values.

    Yields:
        At least one chunk, of no rows perhaps; none if the header cannot be used.

    Raises:
        UnreadableError: The file cannot be read to its end.
        DataError: It is Parquet, and pyarrow is not installed.
    """
    read = _csv_chunks if file.suffix.lower() == ".csv" else _parquet_chunks
    yield from read(file, aus, faults)


def _columns(file: Path, header: Sequence[str], aus: Sequence[int], faults: Faults) -> dict[str, int] | None:
    """Index of each wanted column; None, recorded, if something is wrong with the header."""
    names = [name.strip() for name in header]
    if len(names) == 1 and re.search(r"[;\t|]", names[0]):
        faults.add("bad-header", file, "columns must be separated by commas", line=1)
        return None
    columns: dict[str, int] = {}
    usable = True
    for index, name in enumerate(names):
        match = AU_NAME.fullmatch(name)
        key = au_column(int(match[1])) if match else name.lower()
        if key and key in columns:
            faults.add("duplicate-column", file, f"column {name[:40]!r} occurs twice", line=1)
            usable = False
        elif not match and _MISSPELT_AU.fullmatch(name):
            faults.add(
                "unknown-column", file, f"column {name[:40]!r} is no AU's: expected AU1, AU2, ...", line=1
            )
            usable = False
        columns[key] = index
    absent = [name for name in OPTIONAL if name not in columns]
    for key in [key for key in columns if key not in ("path", *OPTIONAL)]:
        if meant := difflib.get_close_matches(key[:40], absent, 1, 0.8):
            faults.add(
                "unknown-column",
                file,
                f"column {key[:40]!r} resembles {meant[0]!r}: rename it either way",
                line=1,
            )
            usable = False
    wanted = ["path", *map(au_column, aus)]
    if missing := [name for name in wanted if name not in columns]:
        has = ", ".join(name[:40] for name in names[:40]) or "none"
        faults.add("missing-column", file, f"no column {', '.join(missing)}; it has {has}", line=1)
        return None
    return {name: columns[name] for name in (*wanted, *OPTIONAL) if name in columns} if usable else None


def _csv_chunks(file: Path, aus: Sequence[int], faults: Faults) -> Iterator[Chunk]:
    """Chunks of a CSV file, blank lines passed over; none if its header is not usable."""
    begins = 1
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(text, strict=True)  # else a quote that is left open swallows the rest
            header = next(reader, [])
            columns = _columns(file, header, aus, faults)
            if columns is None:
                return
            begins = reader.line_num + 1
            lines: list[int] = []
            rows: list[list[str]] = []
            malformed = 0
            for row in reader:
                if len(row) == len(header):
                    lines.append(begins)
                    rows.append(row)
                elif row:
                    found = f"{len(row)} values where the header names {len(header)}"
                    faults.add("row-width", file, found, begins)
                    malformed += 1
                begins = reader.line_num + 1
                if len(rows) == _ROWS_AT_ONCE:
                    yield _chunk(lines, rows, columns, malformed)
                    lines, rows, malformed = [], [], 0
            yield _chunk(lines, rows, columns, malformed)
    except UnicodeDecodeError:
        raise UnreadableError("not-text", "is not UTF-8", _undecodable_line(file)) from None
    except csv.Error as error:
        raise UnreadableError("unreadable-annotation", f"no row of a CSV file ({error})", begins) from None
    except OSError as error:
        raise UnreadableError("unreadable-annotation", f"cannot be read ({error.strerror})", None) from None


def _chunk(
    lines: Sequence[int], rows: Sequence[Sequence[str]], columns: Mapping[str, int], malformed: int
) -> Chunk:
    cells = {name: [row[index] for row in rows] for name, index in columns.items()}
    return Chunk(np.array(lines, np.int64), cells, malformed)


def _undecodable_line(file: Path) -> int | None:
    """First line that is no UTF-8."""
    with file.open("rb") as content:
        for number, line in enumerate(content, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return None


def _parquet_chunks(file: Path, aus: Sequence[int], faults: Faults) -> Iterator[Chunk]:
    """Chunks of a Parquet file; none if its columns are not usable."""
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise DataError(f"{file}: Parquet needs pyarrow: pip install aunet[parquet]") from None
    try:
        with parquet.ParquetFile(file) as table:
            header = list(table.schema_arrow.names)
            columns = _columns(file, header, aus, faults)
            if columns is None:
                return
            first = 1
            wanted = [header[index] for index in columns.values()]
            for batch in table.iter_batches(_ROWS_AT_ONCE, columns=wanted):
                cells = {name: _cells(batch.column(header[index])) for name, index in columns.items()}
                texts = {name: [*map(_text, cells[name])] for name in ("path", *OPTIONAL) if name in cells}
                yield Chunk(np.arange(first, first + batch.num_rows), cells | texts, 0)
                first += batch.num_rows
            yield Chunk(np.empty(0, np.int64), dict.fromkeys(columns, ()), 0)
    # pyarrow's, of damaged files and (a RuntimeError: NotImplementedError) of types that it cannot read.
    except (OSError, ValueError, LookupError, RuntimeError, MemoryError) as error:
        words = " ".join(str(error).split())[:200]
        raise UnreadableError("unreadable-annotation", f"cannot be read as Parquet ({words})", None) from None


def _cells(column: Any) -> list[Any]:
    """A Parquet column's cells; lists and the like, which are no label and cannot be looked up, as text."""
    cells: list[Any] = column.to_pylist()
    return [*map(str, cells)] if column.type.num_fields else cells


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell)
