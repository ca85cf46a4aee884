"""Checkpoints on disks that fill up: the old one stays as it was, and nothing else is left."""

import errno
import os
import resource
from pathlib import Path

import pytest
import torch

from aunet.checkpoints import WholeCheckpoints

OLD = {"epoch": 1, "state_dict": {"weight": torch.arange(6.0)}}
NEW = {"epoch": 2, "state_dict": {"weight": torch.arange(300_000.0)}}


def saved(path):
    """What another process reads, trusting no code in it."""
    return torch.load(path, map_location="cpu", weights_only=True)


@pytest.fixture
def last(tmp_path):
    path = tmp_path / "run" / "last.ckpt"
    WholeCheckpoints().save_checkpoint(OLD, path)
    return path


def full(path, content):
    """A disk that takes half of it."""
    with path.open("wb") as file:
        file.write(bytes(content)[: len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_takes_the_old_ones_place(last):
    assert saved(last)["epoch"] == 1
    WholeCheckpoints().save_checkpoint(NEW, str(last))
    found = saved(last)
    assert found["epoch"] == 2
    assert torch.equal(found["state_dict"]["weight"], NEW["state_dict"]["weight"])
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]
    assert last.stat().st_mode & 0o777 == 0o644


def test_lightning_reads_it(last):
    found = WholeCheckpoints().load_checkpoint(last, weights_only=True)
    assert torch.equal(found["state_dict"]["weight"], OLD["state_dict"]["weight"])


def test_a_full_disk_leaves_the_old_one_and_nothing_else(last, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        WholeCheckpoints().save_checkpoint(NEW, last)
    assert caught.value.errno == errno.ENOSPC
    assert saved(last)["epoch"] == 1
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_nothing_where_there_was_none(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        WholeCheckpoints().save_checkpoint(NEW, tmp_path / "run" / "last.ckpt")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_write_that_the_system_cuts_off_leaves_the_old_one(last):
    """The kernel itself refuses to write more than a part of it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            WholeCheckpoints().save_checkpoint(NEW, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert saved(last)["epoch"] == 1
    assert [path.name for path in last.parent.iterdir()] == ["last.ckpt"]


def test_options_of_remote_file_systems_are_refused(last):
    with pytest.raises(TypeError, match="storage_options"):
        WholeCheckpoints().save_checkpoint(NEW, last, storage_options={"key": "x"})
    assert saved(last)["epoch"] == 1
