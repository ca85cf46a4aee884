"""The further processes of a run on several devices: started by the first, which alone writes the run folder.

They start anew (multiprocessing's "spawn") and get the resolved configuration: neither the command line nor
Hydra takes part, so that any way to call ``train`` serves. They say nothing themselves; what goes wrong in
one of them is raised in the first.
"""

import logging
import multiprocessing
import os
import pickle
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from torch import distributed

from aunet.devices import Place
from aunet.processes import end_with_parent
from aunet.runs import RunError

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a process gets to end by itself."""

_asking = threading.Lock()

Further = tuple[BaseProcess, Connection]
"""A further process, and where it tells that it is ready (None) or what went wrong (an exception)."""


@contextmanager
def in_step(place: Place, part: Callable[..., object], *arguments: Any) -> Iterator[None]:
    """Runs the body, which trains, at the same time in all processes of a run.

    In the first process: starts the others, waits until they have come to this point too, and ends them
    when the body is done or has failed. In a further one: tells the first that it has come here.

    Args:
        place: Of this process.
        part: What a further process does: ``part(place, *arguments)``, a function of a module, which comes
            to its own ``in_step``.
        *arguments: Of ``part``; they have to be picklable.

    Raises:
        RunError: A process was lost without a word. What one of them raised is raised here, too.
    """
    if place.count == 1:
        yield
        return
    if place.first is not None:
        place.first.send(None)
        yield
        distributed.destroy_process_group()
        return
    further = [_start(replace(place, rank=rank), part, arguments) for rank in range(1, place.count)]
    done = threading.Event()
    try:
        _await(further)
        threading.Thread(target=_watch, args=(further, done), name="watch", daemon=True).start()
        yield
        done.set()
        distributed.destroy_process_group()
        for process, _ in further:
            _exit_code(process, _PATIENCE)
    except Exception as error:  # whatever it is, the further processes must not be left behind
        done.set()
        if not _lost_contact(error):
            raise
        lost = RunError(f"the processes of this run have lost contact ({error}); the same command goes on")
        raise _failure(further) or lost from error
    finally:
        done.set()
        for process, told in further:
            process.kill()
            _exit_code(process, None)
            told.close()
        if distributed.is_initialized() and distributed.get_backend() == "gloo":  # others might wait for ever
            distributed.destroy_process_group()


def _start(place: Place, part: Callable[..., object], arguments: tuple[Any, ...]) -> Further:
    context = multiprocessing.get_context("spawn")
    told, first = context.Pipe(duplex=False)
    process = context.Process(target=_take_part, args=(place, first, part, arguments))
    process.start()
    first.close()  # so that the other end of the pipe ends with the process
    return process, told


def _await(further: list[Further]) -> None:
    """Waits until all further processes are ready; raises what went wrong before."""
    for rank, (_, told) in enumerate(further, start=1):
        try:
            failed: Exception | None = told.recv()
        except EOFError:
            failed = _failure(further) or RunError(f"process {rank} ended before the training began")
        if failed is not None:
            raise failed


def _take_part(
    place: Place, first: Connection, part: Callable[..., object], arguments: tuple[Any, ...]
) -> None:
    """What a further process runs from its start to its end."""
    end_with_parent()
    warnings.simplefilter("ignore")  # the first process says it all
    logging.getLogger("aunet").setLevel(logging.CRITICAL)
    try:
        part(replace(place, first=first), *arguments)
    except Exception as error:  # whatever it is, the first process has to hear of it
        if _lost_contact(error):
            return  # another one failed
        error.add_note(f"in process {place.rank} of {place.count}:\n{traceback.format_exc()}")
        first.send(_picklable(error))
        sys.exit(1)


def _picklable(error: Exception) -> Exception:
    """The exception, or where it cannot be sent one with its text."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:  # an exception's own constructor may raise anything
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _lost_contact(error: BaseException) -> bool:
    """Whether an exception only says that another process is gone."""
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error))


def _failure(further: list[Further]) -> Exception | None:
    """What went wrong in one of the further processes; None if they all are well."""
    deadline = time.monotonic() + _PATIENCE
    codes = [_exit_code(process, max(0.0, deadline - time.monotonic())) for process, _ in further]
    for _, told in further:
        try:
            while told.poll():
                failed: Exception | None = told.recv()
                if failed is not None:
                    return failed
        except EOFError:
            continue
    for rank, code in enumerate(codes, start=1):
        if code:
            return RunError(
                f"process {rank} of {len(further) + 1} ended without a word (exit code {code}; "
                f"-9 often means that the memory was full); the same command goes on"
            )
    return None


def _exit_code(process: BaseProcess, patience: float | None) -> int | None:
    """How a process ended, which it gets ``patience`` seconds for; None if it has not.

    Under a lock: if two threads ask the system for it at once, only one of them is told.
    """
    ended = wait([process.sentinel], patience)
    with _asking:
        if ended:  # at its last step: the sentinel is closed a moment before
            process.join()
        return process.exitcode


def _watch(further: list[Further], done: threading.Event) -> None:
    """Ends this process if another one is lost and it does not notice: NCCL would wait for it for ever."""
    while not done.is_set():
        ended = wait([process.sentinel for process, _ in further], 1.0)
        if ended and any(_exit_code(process, 0) for process, _ in further) and not done.wait(_PATIENCE):
            log.error(f"aunet: {_failure(further)}")
            logging.shutdown()
            os._exit(1)
        if ended:
            done.wait(1.0)
