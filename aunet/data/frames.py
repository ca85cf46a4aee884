"""FrameTable: which frames a split holds, from which video, with which labels, and where their pictures are.

Columns are arrays, so that 2.6 million frames cost megabytes, not Python objects.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, Faults, PictureError
from aunet.facs import au_column

_SAMPLED = 64
"""How many pictures' bytes enter the fingerprint: enough to tell two exports of the same labels apart."""

_NUMBERED = re.compile(r"(\d{1,9})(\.(?:jpe?g|png|bmp))", re.IGNORECASE)
_COUNTED_AT_ONCE = 1 << 18


class FrameSource(Protocol):
    """Where the pictures of N frames are."""

    @property
    def raw(self) -> tuple[int, int, int] | None:
        """(H, W, 3) where ``read`` gives uint8 pixels; None where it gives a JPEG, PNG or BMP file."""

    def name(self, index: int) -> str:
        """How messages name one frame: its file."""

    def read(self, index: int) -> bytes:
        """One frame's bytes; raises PictureError."""


@dataclass(frozen=True)
class Crops:
    """The pictures of one video: files of ``folder`` named by ``width`` digits or more and ``suffix``."""

    folder: Path
    width: int = 5
    suffix: str = ".jpg"

    def path(self, number: int) -> Path:
        """File of one frame."""
        return self.folder / f"{number:0{self.width}d}{self.suffix}"


def list_crops(folder: Path, faults: Faults) -> tuple[Crops, npt.NDArray[np.int64]]:
    """How a video's pictures are named, and their numbers, sorted.

    Files that are not named like the majority (other number of digits, other suffix, other names) are
    recorded and left out; hidden files are passed over.

    Raises:
        DataError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror})") from None
    matches = [match for match in map(_NUMBERED.fullmatch, names) if match]
    if not matches:
        for name in sorted(names):
            faults.add("bad-crop-name", folder / name)
        return Crops(folder), np.empty(0, np.int64)
    # 00001 pads to five digits, 1 to one; 123456 pads to whatever the others say.
    suffixes = [match[2] for match in matches]
    suffix = max(sorted(set(suffixes)), key=suffixes.count)
    padded = [len(match[1]) for match in matches if match[1].startswith("0") and match[2] == suffix]
    widths = padded or [min(len(match[1]) for match in matches if match[2] == suffix)]
    crops = Crops(folder, max(sorted(set(widths)), key=widths.count), suffix)
    numbers = {int(match[1]) for match in matches if crops.path(int(match[1])).name == match[0]}
    for name in sorted(set(names) - {crops.path(number).name for number in numbers}):
        faults.add("bad-crop-name", folder / name)
    return crops, np.array(sorted(numbers), np.int64)


class CropFiles:
    """Pictures in one folder for each video, named by frame number."""

    raw: tuple[int, int, int] | None = None

    def __init__(
        self, crops: Sequence[Crops], video: npt.NDArray[np.int32], frame: npt.NDArray[np.int32]
    ) -> None:
        self.crops = tuple(crops)
        self.video = video
        self.frame = frame

    def path(self, index: int) -> Path:
        """File of one frame."""
        return self.crops[int(self.video[index])].path(int(self.frame[index]))

    def name(self, index: int) -> str:
        """File of one frame."""
        return str(self.path(index))

    def read(self, index: int) -> bytes:
        """Content of one frame's file; raises PictureError."""
        return read_picture(self.path(index))


class ListedFiles:
    """Pictures at paths that a list gives, kept as one text, since 2.6 million strings would cost 250 MB."""

    raw: tuple[int, int, int] | None = None

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root = root
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def path(self, index: int) -> Path:
        """File of one frame."""
        return self.root / os.fsdecode(self._text[self._ends[index] : self._ends[index + 1]])

    def name(self, index: int) -> str:
        """File of one frame."""
        return str(self.path(index))

    def read(self, index: int) -> bytes:
        """Content of one frame's file; raises PictureError."""
        return read_picture(self.path(index))


class Selected:
    """Some frames of another source, in an order of their own."""

    def __init__(self, source: FrameSource, rows: npt.NDArray[np.int64]) -> None:
        self.source: FrameSource = source.source if isinstance(source, Selected) else source
        self.rows: npt.NDArray[np.int64] = source.rows[rows] if isinstance(source, Selected) else rows
        self.raw = self.source.raw

    def name(self, index: int) -> str:
        """How the other source names the frame."""
        return self.source.name(int(self.rows[index]))

    def read(self, index: int) -> bytes:
        """The frame's bytes; raises PictureError."""
        return self.source.read(int(self.rows[index]))


def read_picture(path: Path) -> bytes:
    """Content of a picture's file.

    Raises:
        PictureError: It cannot be read; names the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(str(path), "unreadable-picture", f"cannot be read ({error.strerror})") from None


@dataclass(frozen=True)
class FrameTable:
    """The labelled frames of one split, ordered by video and frame number.

    Attributes:
        aus: AU number of each label column.
        videos: Names of the videos (of one person in a video where crops are kept so), sorted.
        groups: For each video its base video or its subject; rows of one group never lie in two splits.
        video: (N,) index into ``videos`` of each frame.
        frame: (N,) number of each frame, as in its file's name.
        labels: (N, num_aus) int8 occurrence labels in {0, 1, -1}; -1 is unknown.
        source: Where the pictures are.
        dropped: Why rows of the annotations, or crops, are not in the table, with their number.
        grouped_by: What ``groups`` names.
        pictures: Hash of the sampled pictures' bytes where it is known already (of a packed store).
        files: The annotation files that were read.
    """

    aus: tuple[int, ...]
    videos: tuple[str, ...]
    groups: tuple[str, ...]
    video: npt.NDArray[np.int32]
    frame: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8]
    source: FrameSource
    dropped: Mapping[str, int] = field(default_factory=dict)
    grouped_by: Literal["video", "subject"] = "video"
    pictures: str | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    def positives(self) -> npt.NDArray[np.int64]:
        """(num_aus,) number of frames in which each AU is present."""
        return self._count(1, 1)

    def known(self) -> npt.NDArray[np.int64]:
        """(num_aus,) number of frames in which each AU's label is 0 or 1."""
        return self._count(0, 1)

    def _count(self, low: int, high: int) -> npt.NDArray[np.int64]:
        """Labels in [low, high] of each AU; in parts, so that a mask of millions of frames is never held."""
        count = np.zeros(len(self.aus), np.int64)
        for start in range(0, len(self), _COUNTED_AT_ONCE):
            part = self.labels[start : start + _COUNTED_AT_ONCE]
            count += ((part >= low) & (part <= high)).sum(0)
        return count

    def people(self) -> int:
        """Number of people, as far as the data set tells: subjects, or face tracks of videos."""
        return len(set(self.groups)) if self.grouped_by == "subject" else len(self.videos)

    def sampled(self) -> list[int]:
        """Rows of up to 64 evenly spaced frames, whose pictures enter the fingerprint."""
        return [int(row) for row in np.linspace(0, len(self) - 1, min(_SAMPLED, len(self)))]

    def pictures_digest(self) -> str:
        """SHA-256 over the sampled pictures; one that cannot be read enters as such."""
        if self.pictures is not None:
            return self.pictures
        digest = hashlib.sha256()
        for index in self.sampled():
            try:
                digest.update(self.source.read(index))
            except PictureError as error:
                digest.update(error.kind.encode())
        return digest.hexdigest()

    def fingerprint(self) -> str:
        """SHA-256 over videos, frame numbers, labels and the bytes of up to 64 evenly spaced pictures."""
        digest = hashlib.sha256()
        digest.update("\n".join((*map(str, self.aus), *self.videos, *self.groups)).encode())
        for column in (self.video, self.frame, self.labels):
            digest.update(np.ascontiguousarray(column).data)
        digest.update(self.pictures_digest().encode())
        return digest.hexdigest()

    def take(self, rows: npt.NDArray[np.int64]) -> "FrameTable":
        """The table of some rows, sorted; videos that lose all their frames stay out."""
        kept, video = np.unique(self.video[rows], return_inverse=True)
        return replace(
            self,
            videos=tuple(self.videos[i] for i in kept),
            groups=tuple(self.groups[i] for i in kept),
            video=video.astype(np.int32),
            frame=self.frame[rows],
            labels=self.labels[rows],
            source=Selected(self.source, rows),
            pictures=None,
        )

    def summary(self, split: str) -> str:
        """One line for people: videos, frames, dropped rows by reason, positives per AU."""
        dropped = ", ".join(f"{n} {reason}" for reason, n in self.dropped.items() if n) or "nothing"
        positives = " ".join(f"{au_column(au)}={n}" for au, n in zip(self.aus, self.positives(), strict=True))
        return (
            f"{split}: {len(self.videos)} videos, {len(self)} frames; left out: {dropped}; "
            f"positives: {positives}"
        )


def find_shared_groups(
    tables: Mapping[str, FrameTable],
    faults: Faults,
    where: Mapping[tuple[str, str], tuple[Path, int | None]] | None = None,
) -> None:
    """Records each group (base video or subject) of which two splits hold frames.

    Args:
        tables: FrameTable of each split.
        faults: Receives the groups.
        where: File and line that put a video into a split, by (split, video); the video is named if None.
    """
    owner: dict[str, str] = {}
    for split, table in tables.items():
        videos = dict(zip(table.groups, table.videos, strict=True))
        for group in sorted(set(table.groups)):
            first = owner.setdefault(group, split)
            if first != split:
                file, line = (where or {}).get((split, videos[group]), (videos[group], None))
                said = f"{table.grouped_by} {group!r} lies in both the {first} and the {split} split"
                faults.add("shared-group", file, said, line)
