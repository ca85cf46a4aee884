"""The organisers' lists of a test split: which videos, how many frames of each, or which pictures.

    Action_Unit_Detection_Challenge_test_set_release.txt   the name of a video in each line
    AU_ABAW_Challenge_test_files_expected_frames.txt       <video>,<frames> in each line, without header
    CVPR_6th_ABAW_AU_test_set_sample.txt                   header, then <video>/00001.jpg,,,... in each line

The first two came with the third competition, the sample comes with the fifth and later ones. They count
frames, crops or not, and are the only ones asked: what a video file says about its length is often wrong.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aunet.data.affwild2 import base_video
from aunet.data.annotations import LISTED_FRAME, read_lines
from aunet.data.faults import DataError, Faults
from aunet.data.layout import find_list

TEST_LIST = re.compile("action_unit.*test")
FRAME_LIST = re.compile("au_.*expected_frames")
"""What the lists' names hold."""

_NAME = re.compile(r"[^/\\\0,]{1,200}")
_COUNT = re.compile(r"[0-9]{1,7}")
_LAST = 9_999_999
"""No video has more frames: 92 hours of 30 a second."""


@dataclass(frozen=True)
class Expected:
    """What a submission has to answer.

    Attributes:
        frames: Number of frames of each video, in the order of the list: frames 1 to that number are due.
        sample: Where a sample says so, the pictures that are due, as written there, in its order.
    """

    frames: Mapping[str, int]
    sample: tuple[str, ...] | None = None

    def pictures(self) -> Iterator[str]:
        """All pictures that are due, such as ``2-30-640x360/00001.jpg``, in order."""
        if self.sample is not None:
            yield from self.sample
            return
        for video, count in self.frames.items():
            for frame in range(1, count + 1):
                yield f"{video}/{frame:05d}.jpg"


def read_expected(
    videos: str | Path | None = None,
    frames: str | Path | None = None,
    sample: str | Path | None = None,
    root: str | Path | None = None,
) -> Expected:
    """Reads the organisers' lists.

    A person of a video (``_left``, ``_right``) that has no line of its own in the list of frames has as many
    as the video: both are its frames.

    Args:
        videos: List of the videos.
        frames: List of their numbers of frames.
        sample: The sample of a submission in one file, instead of both.
        root: Folder of the data set, where lists that are not given are looked for.

    Raises:
        DataError: A list is missing or malformed (named with its line), or a video has no number of frames.
    """
    if sample is not None:
        if videos is not None or frames is not None:
            raise DataError("--sample says which frames are due: leave out --list and --frames")
        return _read_sample(Path(sample))
    if root is not None:
        videos = find_list(Path(root), TEST_LIST, "--list") if videos is None else videos
        frames = find_list(Path(root), FRAME_LIST, "--frames") if frames is None else frames
    if videos is None or frames is None:
        raise DataError("give --list and --frames, --sample, or --data DIR where they lie")
    names, counts = _read_names(Path(videos)), _read_counts(Path(frames))
    found = {name: counts.get(name, counts.get(base_video(name))) for name in names}
    without = [name for name, count in found.items() if count is None]
    if without:
        shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
        raise DataError(f"{frames} lacks {len(without)} of the {len(found)} videos of {videos}: {shown}")
    return Expected({name: count for name, count in found.items() if count is not None})


def _read_names(file: Path) -> list[str]:
    first: dict[str, int] = {}
    for number, line in _lines(file):
        if not _NAME.fullmatch(line) or line in (".", ".."):
            raise DataError(f"{file}, line {number}: {line[:60]!r} is no name of a video")
        if line in first:
            raise DataError(f"{file}, line {number}: {line} is listed in line {first[line]} already")
        first[line] = number
    return list(first)


def _read_counts(file: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for number, line in _lines(file):
        name, _, count = (part.strip() for part in line.rpartition(","))
        if not _NAME.fullmatch(name) or not _COUNT.fullmatch(count) or int(count) < 1:
            raise DataError(f"{file}, line {number}: {line[:60]!r} is not <video>,<number of frames>")
        if name in counts:
            raise DataError(f"{file}, line {number}: {name} is listed twice")
        counts[name] = int(count)
    return counts


def _read_sample(file: Path) -> Expected:
    frames: dict[str, int] = {}
    pictures: dict[str, None] = {}
    lines = _lines(file)
    if LISTED_FRAME.fullmatch(next(lines)[1].split(",")[0].strip()):
        raise DataError(f"{file} has no header: the first line of a sample is image_location,AU1,AU2,...")
    for number, line in lines:
        picture = line.split(",")[0].strip()
        match = LISTED_FRAME.fullmatch(picture)
        if not match or match[1] in (".", "..") or not 1 <= int(match[2]) <= _LAST:
            raise DataError(f"{file}, line {number}: {picture[:60]!r} is not <video>/<number>.jpg")
        if picture in pictures:
            raise DataError(f"{file}, line {number}: {picture} is listed twice")
        pictures[picture] = None
        frames[match[1]] = max(frames.get(match[1], 0), int(match[2]))
    if not frames:
        raise DataError(f"{file} lists no picture")
    return Expected(frames, tuple(pictures))


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank."""
    faults = Faults()
    lines = read_lines(file, faults)
    faults.refuse()
    found = [(number, line.strip()) for number, line in enumerate(lines or (), start=1) if line.strip()]
    if not found:
        raise DataError(f"{file} is empty")
    yield from found
