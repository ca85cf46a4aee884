"""Who may write a folder: one process at a time, and never one that is gone.

The lock itself is the operating system's and ends with its owner, however that ends. Some network file
systems keep such locks for each machine by itself; so the owner also leaves its name and a sign of life,
which tells another machine whether it still lives, and ``aunet status`` who is at work.
"""

import contextlib
import json
import logging
import os
import platform
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

SECONDS_BETWEEN_SIGNS = 5.0
SECONDS_OF_SILENCE = 60.0
"""After which an owner on another machine counts as dead."""

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder for this process; waits while another living process holds it.

    Args:
        folder: Made if it is missing; takes the files ``.lock`` and, while it is held, ``.owner.json``.
    """
    lock = FileLock(folder / ".lock")
    while not lock.is_locked:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info(f"{folder}: {_name(_read(folder))} is working on this run; waiting for it")
            with contextlib.suppress(FileNotFoundError):  # who held the folder has removed it
                lock.acquire()
    try:
        _sign(folder)
        with _signs_of_life(folder / ".owner.json"):
            yield
    finally:
        lock.release()


def living_owner(folder: Path) -> dict[str, Any] | None:
    """Who holds a folder: ``host``, ``pid`` and ``machine``; None where nobody does, or its owner is dead."""
    owner = _read(folder)
    if owner is None:
        return None
    if owner["machine"] == _machine():
        return owner if _runs(owner["pid"]) else None
    return owner if _silence(folder) < SECONDS_OF_SILENCE else None


def _sign(folder: Path) -> None:
    """Leaves this process' name, once none of another machine is at work that its own lock did not stop."""
    file, said = folder / ".owner.json", False
    while True:
        try:
            # Of two machines that come at once, one alone makes the file.
            with file.open("x") as content:
                json.dump({"host": platform.node(), "pid": os.getpid(), "machine": _machine()}, content)
            return
        except FileExistsError:
            other = living_owner(folder)
            if other is None or other["machine"] == _machine():  # whose lock has ended
                file.unlink(missing_ok=True)
                continue
            if not said:
                log.info(f"{folder}: {_name(other)} is working on this run; waiting for it")
            said = True
            time.sleep(SECONDS_BETWEEN_SIGNS)
        except OSError:  # on a full disk the lock alone must do
            return


@contextlib.contextmanager
def _signs_of_life(file: Path) -> Iterator[None]:
    """Keeps the owner's file young, and removes it at the end."""
    ended = threading.Event()

    def sign() -> None:
        while not ended.wait(SECONDS_BETWEEN_SIGNS):
            with contextlib.suppress(OSError):  # a folder that was removed under a run fails it elsewhere
                os.utime(file)

    thread = threading.Thread(target=sign, name="signs_of_life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with contextlib.suppress(OSError):
            file.unlink()


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        owner = json.loads((folder / ".owner.json").read_text())
    except (OSError, ValueError):  # none, or one that was cut off by a full disk
        return None
    return owner if isinstance(owner, dict) and owner.keys() >= {"host", "pid", "machine"} else None


def _silence(folder: Path) -> float:
    """Seconds since the owner's last sign, by the clock of the file system: those of machines may differ."""
    probe = folder / f".clock-{platform.node()}-{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime - (folder / ".owner.json").stat().st_mtime
    except OSError:  # it has just ended, or this user may only read: then by this machine's clock
        with contextlib.suppress(OSError):
            return time.time() - (folder / ".owner.json").stat().st_mtime
        return float("inf")
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()


def _name(owner: dict[str, Any] | None) -> str:
    return f"process {owner['pid']} on {owner['host']}" if owner else "another process"


def _machine() -> str:
    """The same for all processes that share a kernel, and so its locks."""
    return _BOOT.read_text().strip() if _BOOT.exists() else platform.node()


def _runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    with contextlib.suppress(OSError):  # killed, and not yet missed by its parent
        if stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another user
        return True
    return True
