"""FrameTable: which frames a split holds, from which video, with which labels.

Columns are arrays, so that 2.6 million frames cost megabytes, not Python objects.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aunet.facs import au_column

_SAMPLED_FILES = 64
"""How many crops' bytes enter the fingerprint: enough to tell two exports of the same labels apart."""


class DataError(ValueError):
    """A data set on disk is not as documented; the message names the file and what to do."""


@dataclass(frozen=True)
class FrameTable:
    """The labelled frames of one split, ordered by video and frame number.

    Attributes:
        aus: AU number of each label column.
        videos: Names of the videos, sorted.
        folders: For each video the folder of its crops, ``<frame:05d>.jpg``.
        groups: For each video its base video; rows of one group never lie in two splits.
        video: (N,) index into ``videos`` of each frame.
        frame: (N,) 1-based frame number of each frame, as in its file name.
        labels: (N, num_aus) int8 occurrence labels in {0, 1, -1}; -1 is unknown.
        dropped: Why rows of the annotations, or crops, are not in the table, with their number.
    """

    aus: tuple[int, ...]
    videos: tuple[str, ...]
    folders: tuple[Path, ...]
    groups: tuple[str, ...]
    video: npt.NDArray[np.int32]
    frame: npt.NDArray[np.int32]
    labels: npt.NDArray[np.int8]
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.frame)

    def path(self, index: int) -> Path:
        """File of one frame's crop."""
        return self.folders[int(self.video[index])] / f"{self.frame[index]:05d}.jpg"

    def positives(self) -> npt.NDArray[np.int64]:
        """(num_aus,) number of frames in which each AU is present."""
        return np.asarray((self.labels == 1).sum(0), dtype=np.int64)

    def known(self) -> npt.NDArray[np.int64]:
        """(num_aus,) number of frames in which each AU's label is 0 or 1."""
        return np.asarray((self.labels >= 0).sum(0), dtype=np.int64)

    def fingerprint(self) -> str:
        """SHA-256 over videos, frame numbers, labels and the bytes of up to 64 evenly spaced crops.

        Raises:
            DataError: One of these crops cannot be read.
        """
        digest = hashlib.sha256()
        digest.update("\n".join((*map(str, self.aus), *self.videos, *self.groups)).encode())
        for column in (self.video, self.frame, self.labels):
            digest.update(np.ascontiguousarray(column).tobytes())
        for index in np.linspace(0, len(self) - 1, min(_SAMPLED_FILES, len(self))).astype(int):
            digest.update(read_crop(self.path(index)))
        return digest.hexdigest()

    def summary(self, split: str) -> str:
        """One line for people: videos, frames, dropped rows by reason, positives per AU."""
        dropped = ", ".join(f"{n} {reason}" for reason, n in self.dropped.items() if n) or "nothing"
        positives = " ".join(f"{au_column(au)}={n}" for au, n in zip(self.aus, self.positives(), strict=True))
        return (
            f"{split}: {len(self.videos)} videos, {len(self)} frames; left out: {dropped}; "
            f"positives: {positives}"
        )


def read_crop(path: Path) -> bytes:
    """Content of a crop's file.

    Raises:
        DataError: It cannot be read; names the file.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def check_disjoint(tables: Mapping[str, FrameTable]) -> None:
    """Refuses splits that share a group (a base video or subject).

    Raises:
        DataError: Two splits hold frames of one group; names the splits and the groups.
    """
    owner: dict[str, str] = {}
    for split, table in tables.items():
        for group in sorted(set(table.groups)):
            first = owner.setdefault(group, split)
            if first != split:
                raise DataError(
                    f"video {group!r} lies in both the {first} and the {split} split: frames of one video "
                    f"(_left and _right included) must not be separated; remove one of its annotation files"
                )
