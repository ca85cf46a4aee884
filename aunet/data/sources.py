"""Where the pictures of frames are: in a folder for each video, at listed paths, or in another source."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from aunet.data.faults import DataError, Faults, PictureError
from aunet.data.pictures import decode_into

_NUMBERED = re.compile(r"(\d{1,9})(\.(?:jpe?g|png|bmp))", re.IGNORECASE)


class FrameSource(Protocol):
    """Where the pictures of N frames are."""

    @property
    def raw(self) -> tuple[int, int, int] | None:
        """(H, W, 3) where ``read`` gives uint8 pixels; None where it gives a JPEG, PNG or BMP file."""

    def name(self, index: int) -> str:
        """How messages name one frame: its file."""

    def read(self, index: int) -> bytes:
        """One frame's bytes; raises PictureError."""

    def fill(self, index: int, out: npt.NDArray[np.uint8], resize: bool) -> None:
        """One frame's pixels into (H, W, 3) ``out``, see ``decode_into``; raises PictureError."""


@dataclass(frozen=True)
class Crops:
    """The pictures of one video: files of ``folder`` named by ``width`` digits or more and ``suffix``."""

    folder: Path
    width: int = 5
    suffix: str = ".jpg"

    def file(self, number: int) -> str:
        """Name of one frame's file."""
        return f"{number:0{self.width}d}{self.suffix}"

    def path(self, number: int) -> Path:
        """File of one frame."""
        return self.folder / self.file(number)


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
    numbers = {int(match[1]) for match in matches if crops.file(int(match[1])) == match[0]}
    for name in sorted(set(names) - {crops.file(number) for number in numbers}):
        faults.add("bad-crop-name", folder / name)
    return crops, np.array(sorted(numbers), np.int64)


class Files(ABC):
    """Pictures that are files of their own."""

    raw: tuple[int, int, int] | None = None

    @abstractmethod
    def path(self, index: int) -> Path:
        """File of one frame."""

    def name(self, index: int) -> str:
        """File of one frame."""
        return str(self.path(index))

    def read(self, index: int) -> bytes:
        """Content of one frame's file; raises PictureError."""
        return read_picture(self.path(index))

    def fill(self, index: int, out: npt.NDArray[np.uint8], resize: bool) -> None:
        """One frame's pixels into (H, W, 3) ``out``; raises PictureError."""
        decode_into(self.read(index), out, partial(self.name, index), resize)


class CropFiles(Files):
    """Pictures in one folder for each video, named by frame number."""

    def __init__(
        self, crops: Sequence[Crops], video: npt.NDArray[np.int32], frame: npt.NDArray[np.int32]
    ) -> None:
        self.crops = tuple(crops)
        self.video = video
        self.frame = frame

    def path(self, index: int) -> Path:
        """File of one frame."""
        return self.crops[int(self.video[index])].path(int(self.frame[index]))


class ListedFiles(Files):
    """Pictures at paths that a list gives, kept as one text, since 2.6 million strings would cost 250 MB."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self.root = root
        self._text = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def path(self, index: int) -> Path:
        """File of one frame."""
        return self.root / os.fsdecode(self._text[self._ends[index] : self._ends[index + 1]])


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

    def fill(self, index: int, out: npt.NDArray[np.uint8], resize: bool) -> None:
        """The frame's pixels into (H, W, 3) ``out``; raises PictureError."""
        self.source.fill(int(self.rows[index]), out, resize)


def read_picture(path: Path) -> bytes:
    """Content of a picture's file.

    Raises:
        PictureError: It cannot be read; names the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PictureError(str(path), "unreadable-picture", f"cannot be read ({error.strerror})") from None
