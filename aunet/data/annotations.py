"""Reads annotation text: lines, headers of AU columns, tables of integers; records what is wrong."""

import contextlib
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.data.faults import Faults
from aunet.facs import au_column

AU_NAME = re.compile(r"AU\s*0*(\d{1,2})(?:_?[rc])?", re.IGNORECASE)
"""A column's name, as in AU1, au01, AU 12 or OpenFace's AU12_c."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,15}")


@dataclass(frozen=True)
class VideoLabels:
    """The labelled frames of one video, as the annotations give them.

    Attributes:
        video: Name of the video.
        file: Annotation file.
        lines: (N,) 1-based line of each row.
        frames: (N,) number of the picture that each row belongs to, sorted.
        labels: (N, num_aus) int8 in {0, 1, -1}.
        faulty: Rows that were left out because something is wrong with them.
    """

    video: str
    file: Path
    lines: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int8]
    faulty: int = 0


def read_lines(file: Path, faults: Faults) -> list[str] | None:
    """Lines of a text file, blank ones at its end left out; None, recorded, if it cannot be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        faults.add("not-text", file, f"not a text file ({error.reason} at byte {error.start})")
        return None
    except OSError as error:
        faults.add("unreadable-annotation", file, f"cannot be read ({error.strerror})")
        return None
    # Not splitlines: a form feed within a line would shift all labels below it.
    return text.replace("\r\n", "\n").replace("\r", "\n").rstrip().split("\n")


def au_columns(
    file: Path, names: Sequence[str], aus: Sequence[int], faults: Faults, others: Collection[str] = ()
) -> list[int] | None:
    """Index of each wanted AU's column in a header.

    Args:
        file: For messages.
        names: The header's cells.
        aus: AUs wanted, in the order wanted.
        faults: Receives what is wrong with the header.
        others: Names of columns that are no AUs, in lower case.

    Returns:
        Indices into ``names``; None if the file cannot be used.
    """
    columns: dict[int, int] = {}
    usable = True
    for index, name in enumerate(map(str.strip, names)):
        match = AU_NAME.fullmatch(name)
        if match and int(match[1]) in columns:
            faults.add("duplicate-column", file, f"column {name} occurs twice", line=1)
            usable = False
        elif match:
            columns[int(match[1])] = index
        elif name.lower() not in others:
            kind = "unknown-column" if columns or others else "bad-header"
            shown = name if len(name) < 40 else f"{name[:40]}..."
            faults.add(kind, file, f"expected a header such as AU1,AU2,...; found {shown!r}", line=1)
            usable = False
    missing = [au_column(au) for au in aus if au not in columns]
    if usable and missing:
        has = ", ".join(map(au_column, columns)) or "no AU"
        faults.add("missing-column", file, f"no column for {', '.join(missing)}; it has {has}", line=1)
    return [columns[au] for au in aus] if usable and not missing else None


def integer_table(
    file: Path,
    lines: Sequence[str],
    width: int,
    first_line: int,
    faults: Faults,
    named: str = "the header names",
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """A comma-separated table of integers.

    Args:
        file: For messages.
        lines: Its lines, without the header.
        width: Number of columns.
        first_line: Number of the first of these lines in the file.
        faults: Receives each malformed line.
        named: What says how many columns there are, for messages.

    Returns:
        (N, width) values, -1 in malformed rows, and (N,) whether a row is well-formed.
    """
    if not lines:
        return np.empty((0, width), np.int64), np.empty(0, bool)
    values: npt.NDArray[np.int64] | None = None
    # numpy looks characters up in C's table of 256, and beyond it may read memory that is not there.
    if all(map(str.isascii, lines)):
        with warnings.catch_warnings(), contextlib.suppress(ValueError, OverflowError, Warning):
            warnings.simplefilter("error")  # numpy would read 1.0 as an integer, with a warning
            values = np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2, comments=None)
    if values is not None and values.shape == (len(lines), width):
        return values, np.ones(len(lines), bool)
    values = np.full((len(lines), width), -1, np.int64)
    good = np.zeros(len(lines), bool)
    for row, line in enumerate(lines):
        cells = [cell.strip() for cell in line.split(",")]
        wrong = next((cell for cell in cells if not _INTEGER.fullmatch(cell)), None)
        if len(cells) != width:
            found = f"{len(cells)} values" if line.strip() else "a blank line"
            faults.add("row-width", file, f"{found} where {named} {width}", line=first_line + row)
        elif wrong is not None:
            shown = wrong if len(wrong) < 40 else f"{wrong[:40]}..."
            faults.add("not-integer", file, f"label {shown!r} is not an integer", line=first_line + row)
        else:
            values[row], good[row] = [int(cell) for cell in cells], True
    return values, good


def check_range(
    file: Path,
    values: npt.NDArray[np.int64],
    allowed: Sequence[int],
    lines: npt.NDArray[np.int64],
    faults: Faults,
) -> npt.NDArray[np.bool_]:
    """Whether all values of each row are allowed; records the rows in which one is not."""
    wrong = ~np.isin(values, allowed)
    words = ", ".join(map(str, allowed[:-1])) + f" or {allowed[-1]}"
    for row in np.flatnonzero(wrong.any(1)):
        value = int(values[row][wrong[row]][0])
        faults.add("out-of-range", file, f"label '{value}' is not {words}", line=int(lines[row]))
    return np.asarray(~wrong.any(1))


def read_video_labels(file: Path, video: str, aus: Sequence[int], faults: Faults) -> VideoLabels | None:
    """One video's annotation file: a header of AU names, then one line per frame.

    Args:
        file: Text file; line k after the header belongs to frame k.
        video: Name of the video.
        aus: AUs wanted, in the order wanted.
        faults: Receives what is wrong.

    Returns:
        Its well-formed rows; None if the file cannot be used at all.
    """
    lines = read_lines(file, faults)
    if lines is None:
        return None
    names = lines[0].split(",")
    order = au_columns(file, names, aus, faults)
    if order is None:
        return None
    if len(lines) == 1:
        faults.add("no-rows", file)
    numbers = np.arange(1, len(lines))
    values, good = integer_table(file, lines[1:], len(names), 2, faults)
    good[good] = check_range(file, values[good], (0, 1, -1), numbers[good] + 1, faults)
    return VideoLabels(
        video,
        file,
        numbers[good] + 1,
        numbers[good],
        values[good][:, order].astype(np.int8),
        int((~good).sum()),
    )


def read_image_list(file: Path, aus: Sequence[int], faults: Faults) -> list[VideoLabels]:
    """A split in one file: ``image_location,AU1,...``, then rows such as ``2-30-640x360/00001.jpg,1,0,...``.

    The multi-task editions' columns of valence, arousal and expression are passed over.

    Args:
        file: Text file.
        aus: AUs wanted, in the order wanted.
        faults: Receives what is wrong.

    Returns:
        The labelled frames of each video, sorted by video and frame.
    """
    lines = read_lines(file, faults)
    if lines is None:
        return []
    names = lines[0].split(",")
    order = au_columns(file, names, aus, faults, others=LIST_COLUMNS)
    if order is None:
        return []
    rows: dict[str, dict[int, tuple[int, list[int]]]] = {}
    faulty: dict[str, int] = {}
    nameless = 0
    for number, line in enumerate(lines[1:], start=2):
        cells = [cell.strip() for cell in line.split(",")]
        match = LISTED_FRAME.fullmatch(cells[0])
        if not match or match[1] in (".", ".."):
            faults.add("bad-name", file, f"{cells[0][:60]!r} is not <video>/<number>.jpg", line=number)
            nameless += 1
            continue
        video, frame = match[1], int(match[2])
        values = [_LABELS.get(cells[i]) if i < len(cells) else None for i in order]
        known = [value for value in values if value is not None]
        if len(cells) != len(names):
            fault, kind = f"{len(cells)} values where the header names {len(names)}", "row-width"
        elif len(known) < len(values):
            cell = cells[order[values.index(None)]]
            whole = _INTEGER.fullmatch(cell)
            fault = f"label '{cell[:40]}' is not " + ("0, 1 or -1" if whole else "an integer")
            kind = "out-of-range" if whole else "not-integer"
        elif frame in rows.get(video, {}):
            fault, kind = f"{cells[0]} is listed in line {rows[video][frame][0]} already", "duplicate-row"
        else:
            rows.setdefault(video, {})[frame] = (number, known)
            continue
        faults.add(kind, file, fault, line=number)
        faulty[video] = faulty.get(video, 0) + 1
    first, lost = min(rows, default=""), sum(n for video, n in faulty.items() if video not in rows)
    return [
        VideoLabels(
            video,
            file,
            np.array([rows[video][frame][0] for frame in sorted(rows[video])]),
            np.array(sorted(rows[video])),
            np.array([rows[video][frame][1] for frame in sorted(rows[video])], np.int8),
            # Faulty rows of no video that is read are counted with the first.
            faulty.get(video, 0) + (video == first) * (nameless + lost),
        )
        for video in sorted(rows)
    ]


LIST_COLUMNS = ("image_location", "image", "valence", "arousal", "expression", "expr")
"""Columns of a one-file list that are no AUs."""

LISTED_FRAME = re.compile(r"([^/\\\0]{1,200})/(\d{1,9})\.(?:jpe?g|png|bmp)", re.IGNORECASE)
"""A picture in such a list: its video and its number; a name that leads elsewhere does not match."""

_LABELS = {"0": 0, "1": 1, "-1": -1}
