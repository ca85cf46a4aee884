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
    """Lets this worker process ignore what Slurm tells its job, which is its parent's business.

    Slurm sends SIGUSR1 or SIGUSR2, when time is nearly up, and SIGTERM to each process of a job. A forked
    worker would run the handler that it has inherited, and queue the job again as its parent does; others
    would die, and their parent would fail of that before it has ended in order. Workers end with it.

    Args:
        number: Of the worker, as a DataLoader tells it.
    """
    if "SLURM_JOB_ID" in os.environ:
        for name in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)


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
