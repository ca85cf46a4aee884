"""Processes: how many the machine serves at once, and worker processes that must not outlive their parent."""

import functools
import multiprocessing
import os
import threading
from multiprocessing.connection import wait


def usable_cores() -> int:
    """Cores that this process may use, which a cluster job's may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
