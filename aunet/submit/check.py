"""Checks a submission, ours or not, against the organisers' lists: every fault by kind, file and line.

The organisers' own scripts are not known, so that everything is a fault that a strict reader could refuse or
read otherwise: blanks, CR LF line ends and a byte-order mark, too. Whether the last line ends is left open.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from aunet.data.annotations import LISTED_FRAME
from aunet.data.faults import DataError, Faults
from aunet.data.testset import Expected
from aunet.submit.files import NUM_AUS, Format
from aunet.submit.kinds import KINDS
from aunet.submit.text import RowFaults, check_header, is_header, read_lines, row_faults

_ARCHIVES = {".zip", ".tar", ".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"}
_ZEROTH = "/00000.jpg"
_ENDS = re.compile(r"(\.(txt|csv|tsv|mp4|avi|mov|mkv|webm))*$")


def check(path: str | Path, expected: Expected, form: Format | None = None) -> Faults:
    """Looks for faults in a submission.

    Args:
        path: Its folder (abaw3) or file (abaw5).
        expected: What is due.
        form: Of the submission; None: abaw3 for a folder, abaw5 for a file.

    Returns:
        What is wrong; empty for a submission without fault.

    Raises:
        DataError: There is nothing at ``path``.
    """
    place, faults = Path(path), Faults(KINDS)
    if not place.exists():
        raise DataError(f"{place} is not there")
    if form is None:
        form = "abaw3" if place.is_dir() or place.suffix.lower() in _ARCHIVES else "abaw5"
    if place.is_file() and place.suffix.lower() in _ARCHIVES:
        faults.add("archive", place)
    elif place.is_dir() != (form == "abaw3"):
        due = "a folder of files" if form == "abaw3" else "one file"
        faults.add("wrong-type", place, f"{form} is {due}")
    elif form == "abaw3":
        found = _find_files(place, expected, faults)
        for video, count in expected.frames.items():
            if video in found:
                _check_video(found[video], count, faults)
            else:
                faults.add("missing-file", place / f"{video}.txt")
    else:
        _check_pictures(place, expected, faults)
    return faults


def _find_files(folder: Path, expected: Expected, faults: Faults) -> dict[str, Path]:
    """The file of each video that has one, under its name or a similar one; records everything else."""
    files = {f"{video}.txt": video for video in expected.frames}
    paths = sorted(folder.iterdir())
    found = {files[path.name]: path for path in paths if path.name in files and not path.is_dir()}
    folded = {name.lower(): name for name in files}
    stems = {_stem(name): name for name in files}
    for path in paths:
        if path in found.values():
            continue
        cased = folded.get(path.name.lower())
        due = cased or stems.get(_stem(path.name))
        if path.is_dir():
            inside = sum(child.name in files for child in path.iterdir()) if os.access(path, os.R_OK) else 0
            faults.add("nested-folder", path, f"{inside} of the videos' files lie in it" if inside else "")
        elif path.suffix.lower() in _ARCHIVES:
            faults.add("archive", path)
        elif due and files[due] not in found:
            faults.add("wrong-case" if cased else "wrong-name", path, f"the name that is due is {due}")
            found[files[due]] = path
        else:
            people = [due for due in files if re.fullmatch(rf"{re.escape(path.stem)}_(left|right)\.txt", due)]
            faults.add("extra-file", path, f"the list has {' and '.join(people)}" if people else "")
    return found


def _stem(name: str) -> str:
    """What tells videos apart in names of files, however these end and join the words."""
    return _ENDS.sub("", name.lower()).replace("-", "_")


def _check_video(file: Path, count: int, faults: Faults) -> None:
    """The file of one video, of which ``count`` frames are expected."""
    lines = read_lines(file, faults)
    if lines is None:
        return
    first = check_header(file, lines, "abaw3", faults)
    rows, there = RowFaults(), 0
    for number, line in enumerate(lines[first:], start=first + 1):
        if is_header(line, "abaw3"):
            rows.add(number, [("repeated-header", "")])
            continue
        rows.add(number, row_faults(line))
        there += bool(line.strip())
    rows.tell(file, faults)
    if there != count:
        kind = "too-few-lines" if there < count else "too-many-lines"
        faults.add(kind, file, f"{there} where the organisers expect {count} frames")


def _check_pictures(file: Path, expected: Expected, faults: Faults) -> None:
    """One file of rows for pictures."""
    lines = read_lines(file, faults)
    if lines is None:
        return
    first = check_header(file, lines, "abaw5", faults)
    order = {picture: number for number, picture in enumerate(expected.pictures())}
    videos = {video.lower(): video for video in expected.frames}
    line_of: dict[str, int] = {}
    line_of_zeroth: dict[str, int] = {}
    rows = RowFaults()
    for number, line in enumerate(lines[first:], start=first + 1):
        if is_header(line, "abaw5"):
            rows.add(number, [("repeated-header", "")])
            continue
        location, comma, values = line.partition(",")
        empty = [("too-few-values", f"0 of {NUM_AUS}")] if comma and not values.strip() else None
        rows.add(number, empty or row_faults(values if comma else line))
        if not comma:
            continue
        picture, wrong = _picture(location, expected, order, videos)
        rows.add(number, wrong)
        video = picture.removesuffix(_ZEROTH)
        if video != picture and picture not in order and video in expected.frames:
            line_of_zeroth.setdefault(video, number)
        elif picture in line_of:
            rows.add(number, [("duplicate-row", f"as line {line_of[picture]}")])
        elif picture in order:
            line_of[picture] = number
    ends = set()
    for video, number in line_of_zeroth.items():
        last = f"{video}/{expected.frames[video]:05d}.jpg"
        shifted = last in order and last not in line_of  # or else it is one frame too many
        rows.add(number, [("frame-zero" if shifted else "unknown-frame", "")])
        if shifted:  # it is there, under the number before
            ends.add(last)
    rows.tell(file, faults)
    faults.add_lines("unsorted-rows", file, _unsorted(line_of, order, in_blocks=expected.sample is None))
    _tell_missing(file, [one for one in order if one not in line_of and one not in ends], faults)


def _picture(
    location: str, expected: Expected, order: Mapping[str, int], videos: Mapping[str, str]
) -> tuple[str, list[tuple[str, str]]]:
    """The picture that a location means, as far as it can be told, and what is wrong with the location."""
    if location in order:
        return location, []
    picture = location.strip()
    found = [("blanks", "")] if picture != location else []
    if picture in order:
        return picture, found
    match = LISTED_FRAME.fullmatch(picture)
    if not match:
        return picture, [*found, ("bad-location", "")]
    video = videos.get(match[1].lower())
    if video is None:
        return picture, [*found, ("unknown-video", match[1][:60])]
    if video != match[1]:
        found.append(("unknown-video", f"{match[1][:60]}, the list has {video}"))
    due = f"{video}/{int(match[2]):05d}.jpg"
    if due.endswith(_ZEROTH) and due not in order:
        return due, found  # what it means depends on the video's other rows
    if due not in order:
        counted = f"{expected.frames[video]} frames of {video} are expected"
        found.append(("unknown-frame", counted if expected.sample is None else "it is not in the sample"))
    elif not picture.endswith(due.removeprefix(video)):
        found.append(("bad-location", ""))
    return due, found


def _unsorted(line_of: Mapping[str, int], order: Mapping[str, int], in_blocks: bool) -> list[int]:
    """Lines of pictures that stand behind one which should follow them.

    Args:
        line_of: Line of each picture, in the order of the file.
        order: Number of each picture in the organisers' order.
        in_blocks: Videos may stand in any order.
    """
    blocks: dict[str, int] = {}
    before, lines = (-1, -1), []
    for picture, line in line_of.items():
        block = blocks.setdefault(picture.rpartition("/")[0], len(blocks)) if in_blocks else 0
        here = (block, order[picture])
        if here < before:
            lines.append(line)
        before = here
    return lines


def _tell_missing(file: Path, missing: Sequence[str], faults: Faults) -> None:
    """Each video's missing pictures in one place."""
    videos: dict[str, list[str]] = {}
    for picture in missing:
        videos.setdefault(picture.rpartition("/")[0], []).append(picture)
    for pictures in videos.values():
        more = f" and {len(pictures) - 1} more of this video" if len(pictures) > 1 else ""
        faults.add("missing-row", file, f"{pictures[0]}{more}", count=len(pictures))
