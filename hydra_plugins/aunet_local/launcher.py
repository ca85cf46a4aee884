"""Rows of a sweep side by side on one machine, each in a process of its own.

Pools of workers (joblib's, concurrent.futures') give up the whole sweep when one worker is killed, by a
system short of memory say. Here a killed row is started again and goes on from its last checkpoint; one that
is killed again and again fails alone. Processes are forked from one that has torch and Lightning imported but
has used neither, so that a row costs no import.
"""

import logging
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, cast

import torch
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.utils import (
    JobReturn,
    JobRuntime,
    JobStatus,
    configure_log,
    filter_overrides,
    run_job,
    setup_globals,
)
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from aunet.processes import end_with_parent, usable_cores
from aunet.runs import record_failure

log = logging.getLogger(__name__)


@dataclass
class _Row:
    """A row, and the process that trains it or did so last."""

    number: int
    config: DictConfig
    killed: int = 0
    place: int = 0
    process: Any = None


class LocalLauncher(Launcher):
    """Hydra's launcher for several rows at once.

    Args:
        processes: Rows at once; None: one for each GPU, or on a CPU one for each core, up to 4. The cores are
            shared out among them (``host.threads``), and each has a GPU of its own as far as they go.
        restarts: How often a row whose process was killed is started again.
    """

    def __init__(self, processes: int | None = None, restarts: int = 2) -> None:
        if processes is not None and processes < 1:
            raise CompactHydraException(f"hydra.launcher.processes={processes} must be at least 1")
        self.gpus = _gpus()
        self.processes = processes or len(self.gpus) or min(4, usable_cores())
        self.restarts = restarts
        self.config: DictConfig
        self.hydra_context: HydraContext
        self.task_function: TaskFunction

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before ``launch``."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Runs all rows.

        Args:
            job_overrides: Overrides of each row.
            initial_job_idx: Number of the first.

        Returns:
            What each row returned, in their order.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        at_once = min(self.processes, len(job_overrides))
        log.info(f"{len(job_overrides)} runs, {at_once} at a time")
        waiting = deque(
            self._row(initial_job_idx + index, list(overrides), at_once)
            for index, overrides in enumerate(job_overrides)
        )
        returned: dict[int, JobReturn] = {}
        running: dict[Connection, _Row] = {}
        free = list(range(at_once))
        # Started with the first row. Where there is no forkserver (Windows) each row pays for its imports.
        methods = multiprocessing.get_all_start_methods()
        context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            context.set_forkserver_preload(["aunet.command", __name__])
        try:
            while waiting or running:
                while waiting and free:
                    row = waiting.popleft()
                    row.place = free.pop(0)
                    running[self._start(context, row)] = row
                for connection in cast("list[Connection]", wait(list(running))):
                    row = running.pop(connection)
                    free.append(row.place)
                    result = self._result(connection, row)
                    if result is None:
                        waiting.appendleft(row)
                    else:
                        returned[row.number] = result
        finally:  # Ctrl-C
            for row in running.values():
                row.process.terminate()
        return [returned[number] for number in sorted(returned)]

    def _row(self, number: int, overrides: list[str], at_once: int) -> _Row:
        given = {override.partition("=")[0] for override in overrides}
        if at_once > 1:
            shared = {"host.threads": max(1, usable_cores() // at_once), "progress": "false"}
            overrides += [f"{key}={value}" for key, value in shared.items() if key not in given]
        log.info(f"\t#{number} : {' '.join(filter_overrides(overrides))}")
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return _Row(number, config)

    def _start(self, context: Any, row: _Row) -> Connection:
        ours: Connection
        ours, theirs = context.Pipe(duplex=False)
        gpu = self.gpus[row.place % len(self.gpus)] if self.gpus else None
        name = JobRuntime.instance().get("name")
        arguments = (theirs, gpu, name, self.hydra_context.callbacks, self.task_function, row.config)
        row.process = context.Process(target=_work, args=arguments, name=f"row{row.number}")
        row.process.start()
        theirs.close()  # so that its end is seen here
        return ours

    def _result(self, connection: Connection, row: _Row) -> JobReturn | None:
        """What a row returned; None if it is to be started again."""
        result = JobReturn(overrides=list(row.config.hydra.overrides.task), cfg=row.config)
        try:
            result.status, result.return_value = connection.recv()
            return result
        except (EOFError, OSError):  # it has ended before it said a word, or within one
            pass
        finally:
            connection.close()
            row.process.join()
        code = row.process.exitcode or 0
        row.killed += 1
        how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
        if code == -signal.SIGKILL:
            how += " (was the system short of memory?)"
        what = f"{row.config.name} seed {row.config.seed}: its process was {how}"
        if code < 0 and row.killed <= self.restarts:
            log.warning(f"aunet: {what}; started again")
            return None
        record_failure(Path(row.config.out_dir), f"its process was {how}")
        log.error(f"aunet: {what}")
        result.status, result.return_value = JobStatus.FAILED, CompactHydraException(f"aunet: {what}")
        return result


def _work(
    connection: Connection,
    gpu: str | None,
    name: str,
    callbacks: Callbacks,
    task_function: TaskFunction,
    config: DictConfig,
) -> None:
    """A row's process."""
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the launcher's, which ends its rows
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # before CUDA is first used
    setup_globals()
    JobRuntime.instance().set("name", name)
    result = run_job(
        # The configuration is composed: nothing asks for its loader, which does not always travel.
        hydra_context=HydraContext(config_loader=cast("ConfigLoader", None), callbacks=callbacks),
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    # No more than that: Hydra's own configuration does not travel back.
    value = result._return_value
    connection.send(
        (result.status, CompactHydraException(str(value)) if isinstance(value, Exception) else value)
    )


def _gpus() -> list[str]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES has them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = visible.split(",") if visible else [str(i) for i in range(torch.cuda.device_count())]
    return names if torch.cuda.is_available() else []
