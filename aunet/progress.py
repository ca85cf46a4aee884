"""Progress of long work: a bar with the time left on a terminal, a line from time to time elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 20.0

Listener = Callable[[str, int, int], None]
"""Is told what is worked on, how much of it is done, and its size."""

_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within, progress of this thread is told to a function, and shown nowhere else."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Shows on the error stream how far some work is.

    Args:
        what: The work, for instance "packing".
        total: Its size.
        unit: What the size counts, for instance "frames".
        done: How much of it was done before.

    Yields:
        ``advance(n)``, to be called when n more are done.
    """
    started = said = time.monotonic()
    now_done = done
    listener = _listener.get()
    if listener is not None:

        def count_up(count: int) -> None:
            nonlocal now_done
            now_done += count
            listener(what, now_done, total)

        count_up(0)
        yield count_up
        return
    console = Console(file=sys.stderr)
    if console.is_terminal:
        columns = (
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total, completed=done)
            yield lambda count: bar.advance(task, count)
        return

    def advance(count: int) -> None:
        nonlocal said, now_done
        now_done += count
        now = time.monotonic()
        if now - said >= SECONDS_BETWEEN_LINES and now_done > done:
            said, left = now, (now - started) * (total - now_done) / (now_done - done)
            console.print(f"{what}: {now_done} of {total} {unit}, about {left:.0f} s left")

    yield advance
