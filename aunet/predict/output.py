"""Writes tables of predictions: CSV, Parquet, JSON; in chunks, so that a table need not fit the memory."""

import csv
import importlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aunet.files import check_place, replacing
from aunet.predict.rows import Columns

SUFFIXES = (".csv", ".parquet", ".json", ".jsonl")


def check_output(out: Path) -> None:
    """Refuses what could not be written, before any work is done.

    Raises:
        ValueError: The suffix says nothing, the folder is not there, or Parquet without pyarrow.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{out}: its suffix must be one of {', '.join(SUFFIXES)}")
    check_place(out)
    if out.suffix.lower() == ".parquet":
        _pyarrow(out)


def write_table(out: Path, tables: Iterable[Columns]) -> int:
    """Writes chunks of one table by the file's suffix; the file appears when it is whole.

    ``.csv`` has a header, and empty cells for what is not known. ``.json`` is an array of objects, one to a
    line, ``.jsonl`` the same lines alone; what is not known is null, as in ``.parquet``.

    Args:
        out: File to write.
        tables: At least one, see ``aunet.predict.rows.columns``.

    Returns:
        Number of rows.
    """
    kind = out.suffix.lower()
    with replacing(out) as temporary:
        if kind == ".parquet":
            return _write_parquet(temporary, tables, out)
        with temporary.open("w", newline="", encoding="utf-8") as file:
            if kind == ".csv":
                writer = csv.writer(file)
                count = 0
                for table in tables:
                    if not count:
                        writer.writerow(table)
                    writer.writerows(zip(*(_cells(*column) for column in table.items()), strict=True))
                    count += len(table["frame"])
                return count
            begin, between, end = ("", "\n", "\n") if kind == ".jsonl" else ("[\n", ",\n", "\n]\n")
            count = 0
            for row in _objects(tables):
                file.write((between if count else begin) + row)
                count += 1
            file.write(end)
            return count


def _objects(tables: Iterable[Columns]) -> Iterator[str]:
    """The rows as JSON objects."""
    for table in tables:
        for row in zip(*(_cells(*column) for column in table.items()), strict=True):
            yield json.dumps(dict(zip(table, row, strict=True)))


def _cells(name: str, values: Any) -> Iterator[Any]:
    """Python's values; None for what is not known."""
    if values.dtype.kind == "f":
        digits = 6 if name == "time_s" or name.endswith(("_prob", "_score")) else 2
        return (None if value != value else round(value, digits) for value in values.astype(float).tolist())
    if values.dtype.kind == "i":
        return (None if value < 0 else value for value in values.tolist())
    return iter(values.tolist())


def _write_parquet(temporary: Path, tables: Iterable[Columns], out: Path) -> int:
    pyarrow = _pyarrow(out)
    parquet = importlib.import_module("pyarrow.parquet")
    writer, count = None, 0
    for table in tables:
        arrays = {
            name: pyarrow.array(values, mask=_unknown(values)) if values.dtype != object else values.tolist()
            for name, values in ((name, np.ascontiguousarray(values)) for name, values in table.items())
        }
        chunk = pyarrow.table(arrays)
        writer = writer or parquet.ParquetWriter(temporary, chunk.schema)
        writer.write_table(chunk)
        count += len(table["frame"])
    if writer:
        writer.close()
    return count


def _unknown(values: Any) -> Any:
    return np.isnan(values) if values.dtype.kind == "f" else values < 0


def _pyarrow(out: Path) -> Any:
    try:
        return importlib.import_module("pyarrow")
    except ModuleNotFoundError:
        raise ValueError(f"{out}: Parquet needs pyarrow: install aunet[parquet], or write .csv") from None
