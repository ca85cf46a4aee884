"""Files to write: whole or not there, and where they can lie."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary name beside ``path``; what was written there takes its place at the end, at once.

    Raises:
        OSError: It cannot be written; names ``path``.
    """
    temporary = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        # A full disk is told without a name, all else by the temporary one.
        if error.errno and (temporary is None or error.filename in (None, str(temporary), temporary)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file to a temporary name and renames it."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def check_place(out: Path) -> None:
    """Refuses a file to write that is something else, or lies in no folder.

    Raises:
        ValueError: It is, or does.
    """
    if out.is_dir():
        raise ValueError(f"{out}: is a folder")
    if out.exists() and not out.is_file():  # such as /dev/stdout, which a file would take the place of
        raise ValueError(f"{out}: is no file that could be written anew")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"{out}: there is no folder {out.parent}")


def _umask() -> int:
    """What files of this user may not allow, as the system tells it; asking os.umask would set it."""
    with contextlib.suppress(OSError, StopIteration), Path("/proc/self/status").open() as file:
        return int(next(line for line in file if line.startswith("Umask:")).split()[1], 8)
    return 0o022
