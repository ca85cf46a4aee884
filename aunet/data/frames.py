"""FrameTable: which frames a split holds, from which video, with which labels.

Columns are arrays, so that 2.6 million frames cost megabytes, not Python objects.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aunet.data.faults import Faults, PictureError
from aunet.data.sources import FrameSource, Selected
from aunet.facs import au_column

_SAMPLED = 64
"""How many pictures' bytes enter the fingerprint: enough to tell two exports of the same labels apart."""

_COUNTED_AT_ONCE = 1 << 18


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


def without_shared_groups(
    tables: Mapping[str, FrameTable],
    faults: Faults,
    where: Mapping[tuple[str, str], tuple[Path, int | None]] | None = None,
) -> dict[str, FrameTable]:
    """The tables without frames of groups (base videos or subjects) that an earlier split holds, too.

    Args:
        tables: FrameTable of each split.
        faults: Receives the groups; what is left out here is an error that its owner refuses or skips.
        where: File and line that put a video into a split, by (split, video); the video is named if None.
    """
    owner: dict[str, str] = {}
    kept: dict[str, FrameTable] = {}
    for split, table in tables.items():
        videos = dict(zip(table.groups, table.videos, strict=True))
        shared = {group for group in videos if owner.setdefault(group, split) != split}
        for group in sorted(shared):
            file, line = (where or {}).get((split, videos[group]), (videos[group], None))
            said = f"{table.grouped_by} {group!r} lies in both the {owner[group]} and the {split} split"
            faults.add("shared-group", file, said, line)
        kept[split] = table
        if shared:
            good = np.array([group not in shared for group in table.groups])
            kept[split] = table.take(np.flatnonzero(good[table.video]))
            skipped = len(table) - len(kept[split])
            dropped = {**table.dropped, "frames of people or videos of another split (skipped)": skipped}
            kept[split] = replace(kept[split], dropped=dropped)
            if not len(kept[split]):
                faults.refuse()
    return kept
