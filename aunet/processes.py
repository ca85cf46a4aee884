"""Processes: how many the machine serves at once, and worker processes that must not outlive their parent."""

import functools
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait


def usable_cores() -> int:
    """Cores that this process may use, which a cluster job's may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_signals(number: int = 0) -> None:
    """Lets this worker process ignore SIGUSR1 and SIGUSR2, which are its parent's business.

    Slurm sends the signal that a job's time is nearly up to each of its processes. A forked worker would run
    the handler that it has inherited, and queue the job again as its parent does; a spawned one would die.

    Args:
        number: Of the worker, as a DataLoader tells it.
    """
    for name in ("SIGUSR1", "SIGUSR2"):
        if hasattr(signal, name):  # not on Windows
            signal.signal(getattr(signal, name), signal.SIG_IGN)


@functools.cache
def end_with_parent() -> None:
    """Ends this process, which multiprocessing has started, once the process that asked for it is gone.

    A parent that was killed cannot tell its workers, which would wait for more work for ever and keep their
    memory. What they were doing goes on, in the next call, from its last complete file.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RuntimeError("end_with_parent is for processes that multiprocessing has started")

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="end_with_parent", daemon=True).start()
