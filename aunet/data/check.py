"""Checks a data set before anything is trained on it: what it holds, and everything that is wrong with it.

Nothing is changed. A data set without a finding is clean; warnings say what will be left out or is unusual;
errors are what training and packing refuse unless ``on_bad=skip`` is said.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from aunet.data.duplicates import STEPS, near_duplicates, signatures
from aunet.data.faults import KINDS, DataError, Faults, PictureError
from aunet.data.frames import FrameTable
from aunet.data.pictures import decode_into, is_grey, picture_format
from aunet.data.staleness import changed_source
from aunet.data.store import is_store, open_store, read_record, verify_store
from aunet.facs import au_column
from aunet.processes import usable_cores
from aunet.progress import progress

_CHUNK = 256
_SHOWN = 5
"""Places of a kind that the text names; the JSON names all."""

_SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".bmp": "BMP"}
ReadTables = Callable[[Faults], dict[str, FrameTable]]


@dataclass
class Report:
    """What a check found.

    Attributes:
        path: The data set or store.
        faults: Everything that is wrong.
        splits: For each split videos, frames, people, rows left out, and for each AU positives, known labels,
            rate and the weight of paper Eq. 4 (of the split's own counts; training uses those of "train").
    """

    path: Path
    faults: Faults = field(default_factory=Faults)
    splits: dict[str, Any] = field(default_factory=dict)

    @property
    def exit_code(self) -> Literal[0, 1, 2]:
        """0 clean, 1 warnings, 2 errors."""
        return 2 if self.faults.of("error") else 1 if self.faults.of("warning") else 0

    def as_json(self) -> dict[str, Any]:
        """The report for programs; every place is named."""
        return {
            "path": str(self.path),
            "exit_code": self.exit_code,
            "splits": self.splits,
            "findings": [
                {
                    "kind": kind,
                    "severity": KINDS[kind].severity,
                    "what": KINDS[kind].what,
                    "advice": KINDS[kind].advice,
                    "count": self.faults.count(kind),
                    "places": [vars(place) for place in places],
                }
                for kind, places in self.faults.places.items()
            ],
        }

    def as_text(self) -> str:
        """The report for people; of each kind the first places."""
        lines = [f"{self.path}"]
        for split, entry in self.splits.items():
            lines.append(
                f"  {split}: {entry['videos']} videos, {entry['people']} people, {entry['frames']} frames"
                + "".join(f"; {count} {why}" for why, count in entry["left_out"].items() if count)
            )
            lines.append(f"    {'':6}{'positives':>10}{'of':>10}{'rate':>8}{'Eq. 4':>8}")
            lines += [
                f"    {au:6}{row['positives']:>10}{row['known']:>10}"
                f"{_number(row['rate'])}{_number(row['weight'])}"
                for au, row in entry["aus"].items()
            ]
        lines += [f"  {line}" for line in self.faults.lines(_SHOWN, " (--json FILE names all)")]
        counts = {s: sum(map(self.faults.count, self.faults.of(s))) for s in ("error", "warning")}
        lines.append(
            f"  {counts['error']} errors, {counts['warning']} warnings" if any(counts.values()) else "  clean"
        )
        return "\n".join(lines)


def check_data(
    root: Path,
    read: ReadTables,
    image_size: int,
    resize: bool = False,
    pixels: bool = True,
    threads: int | None = None,
) -> Report:
    """Checks a data set on disk, or a packed store.

    Args:
        root: Folder of the data set, or the store.
        read: Reads the tables and records what is wrong in the Faults that it is given.
        image_size: Side that pictures should have.
        resize: Whether another size is no fault.
        pixels: Decode every picture, and compare the splits' pictures; otherwise look at files of text only.
        threads: Threads that decode; None: one for each core.
    """
    report = Report(root)
    try:
        if is_store(root):
            tables = open_store(root, allow_stale=True)
            if pixels:
                with progress("checksums", sum(map(len, tables.values())), "frames") as advance:
                    verify_store(root, report.faults, advance)
            elif changed := changed_source(read_record(root)):
                report.faults.add("stale-store", root, changed)
        else:
            tables = read(report.faults)
    except DataError as error:
        report.faults.add("layout", root, str(error))
        return report
    for split, table in tables.items():
        report.splits[split] = _summary(table)
        without = [au_column(au) for au, n in zip(table.aus, table.positives(), strict=True) if not n]
        for au in without:
            report.faults.add("no-positives", root, f"{au} in {split}")
    if pixels:
        raw = next(iter(tables.values())).source.raw
        _check_pictures(
            tables, report.faults, raw[0] if raw else image_size, resize, threads or usable_cores()
        )
    return report


def _summary(table: FrameTable) -> dict[str, Any]:
    positives, known = table.positives().tolist(), table.known().tolist()
    return {
        "videos": len(set(table.groups)) if table.grouped_by == "video" else len(table.videos),
        "people": table.people(),
        "frames": len(table),
        "left_out": dict(table.dropped),
        "aus": {
            au_column(au): {
                "positives": p,
                "known": k,
                "rate": p / k if k else None,
                "weight": k / (2 * p) if p else None,
            }
            for au, p, k in zip(table.aus, positives, known, strict=True)
        },
    }


def _check_pictures(
    tables: Mapping[str, FrameTable], faults: Faults, size: int, resize: bool, threads: int
) -> None:
    """Decodes every picture, then compares those of different splits."""
    seen: dict[str, npt.NDArray[np.uint8]] = {}
    good: dict[str, npt.NDArray[np.bool_]] = {}
    with (
        ThreadPoolExecutor(threads, "check") as pool,
        progress("pictures", sum(map(len, tables.values())), "frames") as advance,
    ):
        for split, table in tables.items():
            seen[split] = np.zeros((len(table), 64), np.uint8)
            good[split] = np.ones(len(table), bool)

            def look(start: int, table: FrameTable = table, split: str = split) -> list[tuple[int, str, str]]:
                rows = range(start, min(start + _CHUNK, len(table)))
                frames = np.empty((len(rows), size, size, 3), np.uint8)
                found = [
                    finding for row in rows for finding in _look(table, row, frames[row - start], resize)
                ]
                seen[split][rows.start : rows.stop] = signatures(frames)
                return found

            starts = range(0, len(table), _CHUNK)
            for start, found in zip(starts, pool.map(look, starts), strict=True):
                for row, kind, detail in found:
                    faults.add(kind, table.source.name(row), detail)
                    good[split][row] &= KINDS[kind].severity != "error"
                advance(min(_CHUNK, len(table) - start))
    splits = list(tables)
    for later in range(1, len(splits)):
        for earlier in range(later):
            _compare(splits[earlier], splits[later], tables, seen, good, faults)


def _look(
    table: FrameTable, row: int, out: npt.NDArray[np.uint8], resize: bool
) -> list[tuple[int, str, str]]:
    """What is wrong with one picture: (row, kind, detail); decodes it into ``out``."""
    source = table.source
    found: list[tuple[int, str, str]] = []
    try:
        if source.raw is not None:
            source.fill(row, out, resize)
            return []
        name, data = source.name(row), source.read(row)
        decode_into(data, out, lambda: name, resize)
        if is_grey(data):
            found.append((row, "grey", ""))
        promised, is_in_fact = _SUFFIXES.get(Path(name).suffix.lower()), picture_format(data)
        if promised and promised != is_in_fact:
            found.append((row, "format-name", f"is a {is_in_fact}"))
    except PictureError as error:
        found.append((row, error.kind, error.detail))
    return found


def _compare(
    earlier: str,
    later: str,
    tables: Mapping[str, FrameTable],
    seen: Mapping[str, npt.NDArray[np.uint8]],
    good: Mapping[str, npt.NDArray[np.bool_]],
    faults: Faults,
) -> None:
    """Records frames of the later split that nearly equal one of the earlier."""
    index, queries = np.flatnonzero(good[earlier]), np.flatnonzero(good[later])
    with progress(f"comparing {earlier} and {later}", STEPS, "steps") as advance:
        twins = near_duplicates(seen[earlier][index], seen[later][queries], advance)
    for query in np.flatnonzero(twins >= 0):
        twin = tables[earlier].source.name(int(index[twins[query]]))
        faults.add(
            "near-duplicate",
            tables[later].source.name(int(queries[query])),
            f"{later} frame like {twin} of {earlier}",
        )


def _number(value: float | None) -> str:
    return f"{'-':>8}" if value is None else f"{value:>8.3f}"
