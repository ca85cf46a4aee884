"""The lock of a run folder: other processes, dead owners, other machines."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time

import pytest

from aunet import locks
from aunet.locks import living_owner, locked

HOLD = """
import sys, time
from pathlib import Path
from aunet.locks import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(120)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def waiting(folder):
    """A thread that wants the folder, and what says that it has it."""
    entered = threading.Event()

    def work():
        with locked(folder):
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread, entered


def elsewhere(folder, age=0.0):
    """The file of an owner on another machine, whose last sign is some seconds old."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / ".owner.json"
    file.write_text(json.dumps({"host": "node7", "pid": 1, "machine": "another"}))
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_excludes_another_process_and_ends_with_its_owner(holder, tmp_path, caplog):
    caplog.set_level("INFO", logger="aunet")
    assert living_owner(tmp_path / "run")["pid"] == holder.pid
    thread, entered = waiting(tmp_path / "run")
    assert not entered.wait(0.5)
    assert f"process {holder.pid} on " in caplog.text
    assert "is working on this run; waiting for it" in caplog.text
    holder.kill()  # SIGKILL: it cannot tidy up
    assert entered.wait(20)
    thread.join(20)
    assert living_owner(tmp_path / "run") is None


def test_killed_owner_is_dead_even_before_its_parent_has_noticed(holder, tmp_path):
    holder.kill()
    deadline = time.monotonic() + 20
    while living_owner(tmp_path / "run") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert living_owner(tmp_path / "run") is None
    assert (tmp_path / "run" / ".owner.json").exists()
    holder.wait()
    assert living_owner(tmp_path / "run") is None


def test_is_free_after_use_and_after_an_error(tmp_path, caplog):
    caplog.set_level("INFO", logger="aunet")
    folder = tmp_path / "sweep" / "row" / "seed0"
    for _ in range(2):
        with pytest.raises(KeyError), locked(folder):
            raise KeyError
    with locked(folder):
        assert living_owner(folder)["pid"] == os.getpid()
    assert "waiting" not in caplog.text
    assert {path.name for path in folder.iterdir()} <= {".lock"}


def test_folders_are_locked_one_by_one(holder, tmp_path):
    with locked(tmp_path / "other"):
        assert holder.poll() is None


def test_living_owner_on_another_machine_is_waited_for(tmp_path, monkeypatch, caplog):
    """As on a file system that keeps locks for each machine by itself."""
    caplog.set_level("INFO", logger="aunet")
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_SIGNS", 0.05)
    file = elsewhere(tmp_path / "run")
    thread, entered = waiting(tmp_path / "run")
    assert not entered.wait(0.5)
    assert "process 1 on node7 is working on this run; waiting for it" in caplog.text
    file.unlink()
    assert entered.wait(20)
    thread.join(20)


def test_silent_owner_on_another_machine_counts_as_dead(tmp_path):
    elsewhere(tmp_path / "run", age=locks.SECONDS_OF_SILENCE - 20)
    assert living_owner(tmp_path / "run")["host"] == "node7"
    elsewhere(tmp_path / "run", age=locks.SECONDS_OF_SILENCE + 20)
    assert living_owner(tmp_path / "run") is None
    with locked(tmp_path / "run"):
        assert living_owner(tmp_path / "run")["pid"] == os.getpid()


def test_signs_of_life_keep_the_owner_young(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "SECONDS_BETWEEN_SIGNS", 0.05)
    with locked(tmp_path):
        file = tmp_path / ".owner.json"
        os.utime(file, (0, 0))
        deadline = time.monotonic() + 20
        while file.stat().st_mtime < 1 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert file.stat().st_mtime > 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_damaged_owners_file_names_nobody(content, tmp_path):
    (tmp_path / ".owner.json").write_text(content)
    assert living_owner(tmp_path) is None
    with locked(tmp_path):
        assert living_owner(tmp_path)["pid"] == os.getpid()


def test_who_waits_for_a_folder_that_is_removed_makes_it_anew(tmp_path):
    folder, entered, go = tmp_path / "run", threading.Event(), threading.Event()

    def second():
        with locked(folder):
            entered.set()
            go.wait(30)

    with locked(folder):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.3)
        assert not entered.is_set()
        shutil.rmtree(folder)
    assert entered.wait(30)
    assert (folder / ".lock").exists()
    go.set()
    waiting.join()
