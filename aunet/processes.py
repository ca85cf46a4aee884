"""Processes: how many the machine serves at once, and worker processes that must not outlive their parent."""

import functools
import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

_SECONDS_TO_END = 20  # of the 30 after which Slurm kills what is left


def usable_cores() -> int:
    """Cores that this process may use, which a cluster job's may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def leave_signals(number: int = 0) -> None:
    """Leaves what Slurm tells each process of a job to this worker's parent.

    Of SIGUSR1 or SIGUSR2, when time is nearly up, a forked worker would run the handler that it has
    inherited, and queue the job again as its parent does; a spawned one would die. Of SIGTERM, it would die
    at once, and its parent would fail of that before it has ended in order: this gives it time to.

    Args:
        number: Of the worker, as a DataLoader tells it.
    """
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_SECONDS_TO_END))


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
