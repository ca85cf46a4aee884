"""What is to be predicted: pictures and videos, given by name or in folders, and splits of data sets."""

import logging
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aunet.data.faults import one_line
from aunet.predict.frames import InputError, shown

log = logging.getLogger(__name__)

PICTURES = {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
VIDEOS = {
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts", ".mts",
    ".m2ts", ".ogv",
}  # fmt: skip
"""Suffixes of what is taken from folders; a file that is named by itself may have any."""

_OVERRIDE = re.compile(r"\+{0,2}(data|num_aus)(\.[\w.]+)?=.*", re.DOTALL)


@dataclass(frozen=True)
class FileInput:
    """A picture or a video.

    Attributes:
        path: Of the file.
        name: The path as it was given, as text.
        size: In bytes.
        changed: Time of its last change, in nanoseconds.
    """

    path: Path
    name: str
    size: int
    changed: int

    @property
    def key(self) -> str:
        """The same for the same content, as far as its place, size and time tell."""
        return f"{self.path.resolve()}|{self.size}|{self.changed}".encode(errors="backslashreplace").decode()


def find_inputs(
    given: Sequence[str | Path | FileInput],
) -> tuple[list[FileInput], list[str], list[InputError]]:
    """Files and data sets among what was given, in its order, each once.

    Args:
        given: Files, perhaps under another name; folders, of which all pictures and videos are taken, with
            those of their subfolders; and overrides such as "data=rendered", which name a data set together.

    Returns:
        The files; the overrides; and what is wrong with single ones.
    """
    files: dict[str, FileInput] = {}
    overrides: list[str] = []
    errors: list[InputError] = []
    for one in given:
        if isinstance(one, FileInput):
            files.setdefault(str(one.path.resolve()), one)
            continue
        try:
            if isinstance(one, str) and _OVERRIDE.fullmatch(one) and not os.path.lexists(one):
                overrides.append(one)
                continue
            if not str(one):
                raise ValueError("an empty name: say which picture, video or folder")
            path = Path(one)
            found: Iterable[Path] = _in_folder(path, errors) if path.is_dir() else [path]
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            errors.append(_told(error, one))
            continue
        for file in found:
            try:
                about = file.stat()
                files.setdefault(
                    str(file.resolve()), FileInput(file, shown(file), about.st_size, about.st_mtime_ns)
                )
            except (OSError, ValueError) as error:
                errors.append(_told(error, file))
    return list(files.values()), overrides, errors


def _told(error: OSError | ValueError, given: str | Path) -> InputError:
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(shown(getattr(error, "filename", None) or given) or "''", reason)


def _in_folder(folder: Path, errors: list[InputError]) -> list[Path]:
    """Pictures and videos in a folder, in order of their names; folders that are closed become errors."""
    closed: list[InputError] = []
    everything: list[Path] = []
    for place, folders, names in os.walk(folder, onerror=lambda error: closed.append(_told(error, folder))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        everything += [Path(place, name) for name in names if not name.startswith(".")]
    found = sorted(path for path in everything if path.suffix.lower() in PICTURES | VIDEOS)
    errors += closed
    if not (found or closed):
        raise ValueError("holds no pictures and no videos")
    if len(found) < len(everything):
        log.info(f"{one_line(shown(folder))}: {len(everything) - len(found)} other files are left out")
    return found


def check_is_no_input(out: Path, files: Sequence[FileInput]) -> None:
    """Refuses to write over what is to be read.

    Raises:
        ValueError: The file to write is one of the inputs.
    """
    if out.exists() and any(file.path.samefile(out) for file in files):
        raise ValueError(f"{out} is the input itself: give what is to be written another name")
