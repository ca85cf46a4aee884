"""What is to be predicted: pictures and videos, given by name or in folders, and splits of data sets."""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from aunet.predict.frames import InputError, one_line, shown

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
        if isinstance(one, str) and _OVERRIDE.fullmatch(one) and not Path(one).exists():
            overrides.append(one)
            continue
        path = Path(one)
        try:
            found: Iterable[Path] = _in_folder(path) if path.is_dir() else [path]
            for file in found:
                about = file.stat()
                files.setdefault(
                    str(file.resolve()), FileInput(file, shown(file), about.st_size, about.st_mtime_ns)
                )
        except (OSError, ValueError) as error:  # ValueError: a name with a null byte
            reason = getattr(error, "strerror", None) or str(error)
            errors.append(InputError(shown(getattr(error, "filename", None) or path), reason))
    return list(files.values()), overrides, errors


def _in_folder(folder: Path) -> list[Path]:
    """Pictures and videos in a folder, in order of their names."""
    everything = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] != "."]
    found = [path for path in everything if path.suffix.lower() in PICTURES | VIDEOS]
    if not found:
        raise ValueError("holds no pictures and no videos")
    if len(found) < len(everything):
        log.info(f"{one_line(shown(folder))}: {len(everything) - len(found)} other files are left out")
    return found
