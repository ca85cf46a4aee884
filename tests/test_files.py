"""Files take their place at once, or not at all; and what keeps them from it is told by their name."""

import errno
import os
import re
from pathlib import Path

import pytest

from aunet.files import check_place, replacing


def test_replacing_shows_the_old_file_until_the_end(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("old")
    with replacing(file) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".csv"
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [file]


def write_and_meet(error, file):
    with replacing(file):
        if error:
            raise error


def test_replacing_names_the_file_that_was_asked_for(tmp_path):
    """And neither none, as a full disk does, nor the temporary one; but others by their own names."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for file, error, named in (
        (tmp_path / "gone" / "a.md", None, tmp_path / "gone" / "a.md"),
        (tmp_path, None, tmp_path),
        (tmp_path / "a.md", full, tmp_path / "a.md"),
        (tmp_path / "a.md", FileNotFoundError(errno.ENOENT, "No such file", "other"), "other"),
    ):
        with pytest.raises(OSError, match=rf": '{re.escape(str(named))}'$") as caught:
            write_and_meet(error, file)
        assert type(caught.value) is type(OSError(caught.value.errno, ""))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("old", ["old", None])
def test_replacing_leaves_everything_as_it_was_when_the_body_fails(error, old, tmp_path):
    file = tmp_path / "table.csv"
    if old is not None:
        file.write_text(old)

    def fail():
        with replacing(file) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(error):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == (
        {} if old is None else {"table.csv": old}
    )


def test_places_that_hold_no_file_are_refused(tmp_path):
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name in ("file", "new"):
        check_place(tmp_path / name)
    for name, said in (
        ("", "is a folder"),
        ("pipe", "is no file"),
        ("gone/new", f"there is no folder {tmp_path}/gone"),
    ):
        with pytest.raises(ValueError, match=said):
            check_place(tmp_path / name)
    with pytest.raises(ValueError, match="is no file"):
        check_place(Path("/dev/null"))
