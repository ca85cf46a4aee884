"""Faults of a data set: what is wrong, in which file and line, how grave, and what to do about it.

A reader leaves out what is at fault and records it here; whoever asked for the data decides what follows:
training and packing refuse errors (``Faults.refuse``), ``aunet data check`` lists everything.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

Severity = Literal["error", "warning"]
OnBad = Literal["error", "skip"]


def one_line(text: str) -> str:
    """Text with line breaks, control characters and bytes that are no text escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class DataError(ValueError):
    """A data set on disk is not as documented; the message names the file and what to do."""


@dataclass(frozen=True)
class Kind:
    """One kind of fault: how grave, and in words what it is and what to do."""

    severity: Severity
    what: str
    advice: str


_RESTORE = "restore the file from its source, or remove it"
_PACK_AGAIN = "remove the store and pack it again"
_MEND = "mend the file, or restore it from its source"

KINDS: Mapping[str, Kind] = {
    "layout": Kind("error", "data sets that cannot be read", "see the README for the layouts"),
    # annotations
    "unreadable-annotation": Kind("error", "annotation files that cannot be read", _MEND),
    "not-text": Kind("error", "annotation files that are no text", _MEND),
    "bad-header": Kind("error", "headers that are not a list of columns", "the first line names the columns"),
    "missing-column": Kind("error", "columns that are missing", "choose the AUs to read by data.aus"),
    "duplicate-column": Kind("error", "columns that occur twice", _MEND),
    "unknown-column": Kind("error", "columns with a name that says nothing", _MEND),
    "row-width": Kind("error", "rows with too few or too many values", _MEND),
    "not-integer": Kind("error", "labels that are no integers", _MEND),
    "out-of-range": Kind("error", "labels out of range", _MEND),
    "bad-name": Kind("error", "names that lead out of the data set, or are no picture's", _MEND),
    "duplicate-row": Kind("error", "frames that are listed twice", "remove one of the rows"),
    "unknown-split": Kind("error", "splits that are not train, val or test", _MEND),
    "missing-annotation": Kind(
        "error", "annotation files that are missing", "restore them from their source"
    ),
    "unequal-files": Kind("error", "files of one video that list different frames", _MEND),
    "frame-offset": Kind(
        "error", "videos whose pictures are numbered otherwise", "set data.read.frame_offset"
    ),
    "unknown-subject": Kind(
        "error", "people that no fold of the published split holds", "remove or rename them"
    ),
    "absent-subject": Kind(
        "warning",
        "people, or tasks of them, of the published split without annotations",
        "figures cannot be compared with published ones",
    ),
    "no-rows": Kind("warning", "annotation files without a row", "nothing is read from them"),
    "shared-group": Kind(
        "error",
        "people or videos in two splits",
        "frames of one video (_left and _right included) or person must not be separated; remove one of its "
        "annotation files",
    ),
    "no-positives": Kind("warning", "AUs that no frame of a split shows", "they cannot be learned or scored"),
    "unknown-row": Kind("warning", "rows with -1 throughout", "they carry no label and are left out"),
    "partly-unknown-row": Kind(
        "warning",
        "rows with -1 in part",
        "data.read.drop_row_if_any decides whether the row or the label is left out",
    ),
    # annotations against pictures
    "label-without-crop": Kind("warning", "labels without crop", "the rows are left out"),
    "crop-without-label": Kind("warning", "crops without label", "the crops are left out"),
    "gap": Kind("warning", "gaps in the numbers of a video's crops", "the frames between are missing"),
    "bad-crop-name": Kind(
        "warning", "files among the crops that are not named by a number", "they are left out"
    ),
    # pictures
    "unreadable-picture": Kind("error", "pictures that cannot be read", _RESTORE),
    "empty-picture": Kind("error", "pictures of no bytes", _RESTORE),
    "damaged-picture": Kind("error", "pictures that are cut off or damaged", _RESTORE),
    "not-a-picture": Kind("error", "files that are no JPEG, PNG or BMP", _RESTORE),
    "wrong-size": Kind("error", "pictures of another size", "set data.image_size, or data.resize=true"),
    "colour-mode": Kind("error", "pictures that are not 8-bit RGB or grey", "convert them to RGB"),
    "grey": Kind("warning", "grey pictures", "they are read as RGB with equal channels"),
    "format-name": Kind("warning", "pictures whose name promises another format", "they are read by content"),
    "near-duplicate": Kind(
        "warning", "frames of one split that (nearly) equal one of another", "the splits are not independent"
    ),
    # stores
    "store-file": Kind("error", "files of the store that are not as they were written", _PACK_AGAIN),
    "stale-store": Kind("error", "stores whose sources have changed", "pack it again"),
    "checksum": Kind("error", "frames of the store whose bytes have changed", _PACK_AGAIN),
}


class PictureError(DataError):
    """A picture cannot be used.

    Attributes:
        kind: Key of KINDS.
        detail: The reason, without the picture's name.
    """

    def __init__(self, place: str, kind: str, detail: str) -> None:
        super().__init__(f"{place}: {detail}; {KINDS[kind].advice}")
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True)
class Place:
    """Where a fault lies: ``file``, for rows ``line`` to ``last`` (from 1, inclusive), ``count`` of them."""

    file: str
    detail: str = ""
    line: int | None = None
    last: int | None = None
    count: int = 1

    def __str__(self) -> str:
        lines = ""
        if self.line is not None:
            alone = self.last == self.line
            lines = f", line {self.line}" if alone else f", lines {self.line}-{self.last}"
        return one_line(f"{self.file}{lines}" + (f": {self.detail}" if self.detail else ""))


class Faults:
    """What is wrong with a data set, by kind, in the order in which it was found.

    Args:
        kinds: The kinds there are, by name.
    """

    def __init__(self, kinds: Mapping[str, Kind] = KINDS) -> None:
        self.kinds = kinds
        self.places: dict[str, list[Place]] = {}

    def add(
        self, kind: str, file: str | Path, detail: str = "", line: int | None = None, count: int = 1
    ) -> None:
        """Records a fault of a file or of one of its lines; ``count`` where it stands for many."""
        if kind not in self.kinds:
            raise KeyError(kind)
        self.places.setdefault(kind, []).append(Place(str(file), detail, line, line, count))

    def add_lines(self, kind: str, file: str | Path, lines: Iterable[int], detail: str = "") -> None:
        """Records a fault of many lines, each run of neighbours as one place; ``lines`` are sorted."""
        numbers = [int(number) for number in lines]
        if not numbers:
            return
        breaks = [(a, b) for a, b in pairwise(numbers) if b != a + 1]
        starts, ends = [numbers[0], *(b for _, b in breaks)], [*(a for a, _ in breaks), numbers[-1]]
        places = self.places.setdefault(kind, [])
        places += [
            Place(str(file), detail, first, last, last - first + 1)
            for first, last in zip(starts, ends, strict=True)
        ]

    def count(self, kind: str) -> int:
        """Number of faults of a kind; a run of lines counts each."""
        return sum(place.count for place in self.places.get(kind, ()))

    def of(self, severity: Severity) -> list[str]:
        """The kinds of that severity that were found."""
        return [kind for kind in self.places if self.kinds[kind].severity == severity]

    def lines(self, shown: int, rest: str = "") -> list[str]:
        """For people: of each kind, errors first, what it is, what to do, and its places.

        Args:
            shown: Places of a kind that are named.
            rest: Where the others are named.
        """
        lines = []
        for kind in (*self.of("error"), *self.of("warning")):
            known, places = self.kinds[kind], self.places[kind]
            lines.append(f"{known.severity}: {self.count(kind)} {known.what} [{kind}]; {known.advice}")
            lines += [f"  {place}" for place in places[:shown]]
            if len(places) > shown:
                lines.append(f"  ... and {len(places) - shown} more places{rest}")
        return lines

    def refuse(self, on_bad: OnBad = "error") -> None:
        """Raises the first error, with the number of the others, unless they are to be skipped.

        Raises:
            DataError: There is an error, and ``on_bad`` is not "skip".
        """
        errors = self.of("error")
        if not errors or on_bad == "skip":
            return
        first = self.places[errors[0]][0]
        others = sum(self.count(kind) for kind in errors) - 1
        more = f" ({others} more errors: `aunet data check` lists them; data.on_bad=skip leaves them out)"
        raise DataError(f"{first}; {self.kinds[errors[0]].advice}" + (more if others else ""))

    def skipped(self) -> dict[str, int]:
        """Errors by kind in words, with their number: what ``on_bad=skip`` left out."""
        return {self.kinds[kind].what: self.count(kind) for kind in self.of("error")}
