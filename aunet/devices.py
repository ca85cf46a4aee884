"""A run on several devices: one process for each, started by the first, which alone writes the run folder.

The further processes start anew (multiprocessing's "spawn") and get the resolved configuration: neither the
command line nor Hydra takes part, so that any way to call ``train`` serves. They say nothing themselves; what
goes wrong in one of them is raised in the first.
"""

import logging
import multiprocessing
import os
import pickle
import socket
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from inspect import signature
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import DDPStrategy
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from aunet.processes import end_with_parent
from aunet.runs import RunError

log = logging.getLogger(__name__)

_PATIENCE = 10.0
"""Seconds that a process gets to end by itself."""
_TIMEOUT = timedelta(days=1)
"""Of a collective: dead processes are noticed otherwise, and waiting for a slow disk is no fault."""

Further = tuple[BaseProcess, Connection]
"""A further process, and where it tells that it is ready (None) or what went wrong (an exception)."""


@dataclass(frozen=True)
class Place:
    """One of the processes of a run.

    Attributes:
        rank: Its number; 0 is the one that the user started.
        count: Number of all of them.
        port: Of this machine, where they find each other.
        first: Further processes: the way to the first one.
    """

    rank: int = 0
    count: int = 1
    port: int = 0
    first: Connection | None = None

    def strategy(self, asked: Any) -> Any:
        """What to tell Lightning's Trainer where the configuration says ``asked``.

        Raises:
            RunError: Several devices by another strategy than DDP.
        """
        if self.count == 1:
            return "auto" if asked == "ddp" else asked
        if asked not in ("auto", "ddp"):
            raise RunError(f"trainer.strategy={asked} must be ddp (or auto) on several devices")
        # Buffers need no broadcast: running statistics come from the whole batch, see aunet.parallel. With
        # it, processes whose shares of the validation split differ by a batch would wait for each other.
        newer = "forward_sync_buffers" in signature(DistributedDataParallel).parameters  # since torch 2.15
        options: dict[str, Any] = {"forward_sync_buffers" if newer else "broadcast_buffers": False}
        return DDPStrategy(
            cluster_environment=_Environment(self.rank, self.port), timeout=_TIMEOUT, **options
        )


class _Environment(LightningEnvironment):
    """Tells Lightning where a process stands, without the process's environment variables."""

    def __init__(self, rank: int, port: int) -> None:
        super().__init__()
        self._rank = rank
        self._port = port

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "127.0.0.1"

    @property
    def main_port(self) -> int:
        return self._port

    def local_rank(self) -> int:
        return self._rank

    def node_rank(self) -> int:
        return 0


def first_place(trainer: Mapping[str, Any]) -> Place:
    """The place of the process that the user started.

    Args:
        trainer: The configuration's ``trainer``; of its keys ``devices`` (a number, a list of GPUs, or -1 or
            "auto" for all of them) and ``accelerator``.

    Raises:
        RunError: There are not so many devices.
    """
    devices = trainer["devices"]
    on_cpu = trainer["accelerator"] == "cpu" or not torch.cuda.is_available()
    gpus = 0 if on_cpu else torch.cuda.device_count()
    if devices in ("auto", "-1", -1):
        count = max(1, gpus)
    elif isinstance(devices, (str, int)):
        count = int(devices) if str(devices).isdigit() else 0
    else:
        count = len(devices)
    if count < 1:
        raise RunError(f"trainer.devices={devices} must be a number, a list of GPUs, or auto")
    if not on_cpu and count > gpus:
        raise RunError(f"trainer.devices={devices}, but this machine has {gpus} GPU(s)")
    return Place(count=count, port=_free_port() if count > 1 else 0)


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
            process.join(_PATIENCE)
    except Exception as error:
        done.set()
        failed = _failure(further) if _lost_contact(error) else None
        if failed is None:
            raise
        raise failed from error
    finally:
        done.set()
        for process, told in further:
            process.kill()
            process.join()
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
    for process, _ in further:
        process.join(max(0.0, deadline - time.monotonic()))
    for _, told in further:
        try:
            while told.poll():
                failed: Exception | None = told.recv()
                if failed is not None:
                    return failed
        except EOFError:
            continue
    for rank, (process, _) in enumerate(further, start=1):
        if process.exitcode:
            return RunError(
                f"process {rank} of {len(further) + 1} ended without a word (exit code {process.exitcode}; "
                f"-9 often means that the memory was full); the same command goes on"
            )
    return None


def _watch(further: list[Further], done: threading.Event) -> None:
    """Ends this process if another one is lost and it does not notice: NCCL would wait for it for ever."""
    while not done.is_set():
        ended = wait([process.sentinel for process, _ in further], 1.0)
        if ended and any(process.exitcode for process, _ in further) and not done.wait(_PATIENCE):
            log.error(f"aunet: {_failure(further)}")
            logging.shutdown()
            os._exit(1)
        if ended:
            done.wait(1.0)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
