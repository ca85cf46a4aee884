"""Devices of a run: how many, one process on each, and what Lightning has to know of a process's place."""

import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from inspect import signature
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.environments import LightningEnvironment  # type: ignore[attr-defined]
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from aunet.runs import RunError

_TIMEOUT = timedelta(days=1)
"""Of a collective: dead processes are noticed otherwise, and waiting for a slow disk is no fault."""


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


class Termination(Callback):
    """Ends a process of several as soon as it is asked to (SIGTERM).

    Lightning would tell the others by a collective from within the signal's handler, while they are in
    another one: all would wait for ever.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """After Lightning has set its handlers, which it takes back itself."""
        if trainer.world_size > 1 and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _leave if trainer.is_global_zero else signal.SIG_DFL)


def _leave(number: int, frame: object) -> NoReturn:
    """Unwinds the first process: files are closed and the others ended."""
    raise SystemExit(128 + number)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
