"""Writes submissions: whole, or not at all."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from aunet.data.testset import Expected
from aunet.facs import AFFWILD2, au_column
from aunet.files import replacing

Format = Literal["abaw3", "abaw5"]
_AUS = ",".join(map(au_column, AFFWILD2))
HEADERS: Mapping[Format, str] = {"abaw3": _AUS, "abaw5": f"image_location,{_AUS}"}
"""First line of the files of each format."""

NUM_AUS = len(AFFWILD2)
"""Values in a line."""


def write_videos(folder: Path, answers: Mapping[str, npt.NDArray[np.int8]]) -> None:
    """Writes a file for each video into a folder, which is made.

    Args:
        folder: That is not there yet.
        answers: (n, 12) in {0, 1} of each video, columns as ``facs.AFFWILD2``.
    """
    folder.mkdir()
    for video, occurrence in answers.items():
        (folder / f"{video}.txt").write_text(
            f"{HEADERS['abaw3']}\n{_rows(occurrence)}", encoding="utf-8", newline="\n"
        )


def write_pictures(file: Path, answers: Mapping[str, npt.NDArray[np.int8]], expected: Expected) -> None:
    """Writes one file with a line for each picture that is due, in the order of the organisers' lists.

    Args:
        file: To write.
        answers: As in ``write_videos``.
        expected: Names the pictures.
    """
    rows = {video: _rows(occurrence).split("\n") for video, occurrence in answers.items()}
    with file.open("w", encoding="utf-8", newline="\n") as text:
        text.write(f"{HEADERS['abaw5']}\n")
        for picture in expected.pictures():
            video, _, name = picture.rpartition("/")
            text.write(f"{picture},{rows[video][int(name.partition('.')[0]) - 1]}\n")


@contextmanager
def built(out: Path, form: Format) -> Iterator[Path]:
    """A temporary name beside ``out``; the file or folder that is left there takes its place at the end.

    Raises:
        FileExistsError: There is something at ``out``.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or give another place")
    out.parent.mkdir(parents=True, exist_ok=True)
    if form == "abaw5":
        with replacing(out) as temporary:
            yield temporary
        return
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}-"))
    try:
        yield work / out.name
        (work / out.name).rename(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _rows(occurrence: npt.NDArray[np.int8]) -> str:
    """(n, 12) in {0, 1} -> n lines of comma-separated digits."""
    text = np.full((len(occurrence), 2 * occurrence.shape[1]), ord(","), np.uint8)
    text[:, ::2] = ord("0") + occurrence
    text[:, -1] = ord("\n")
    return text.tobytes().decode("ascii")
