"""What a sweep was asked for, and at its end every run that has not finished, whatever launched it."""

import logging
from pathlib import Path
from typing import Any, cast

import hydra
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aunet.cells import Cell, Facts, State, plan, read_cells

log = logging.getLogger(__name__)


class Plan(Callback):
    """Writes down which runs a sweep will make before it begins: those that make them may be killed.

    Hydra's callback, see ``conf/config.yaml``. The runs of the latest sweep of this process are in ``asked``.
    """

    asked: dict[Path, dict[tuple[str, int], Facts]] = {}  # noqa: RUF012 - of the process, not of an instance

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Composes each run's configuration for its place."""
        Plan.asked.clear()
        # As they were given: ${...} is resolved in each run's own configuration.
        given = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        try:
            parsed = OverridesParser.create().parse_overrides(cast("list[str]", given))
            jobs = BasicSweeper.split_arguments(parsed, None)[0]
            composed = [hydra.compose("config", job) for job in jobs]
        except (HydraException, OmegaConfBaseException):
            return  # it cannot be composed, which Hydra says next, or a search chooses its runs as it goes
        for cfg in composed:
            if not _trial(cfg):
                folder = Path(cfg.out_dir).parent.parent
                Plan.asked.setdefault(folder, {})[cfg.name, cfg.seed] = {
                    "title": cfg.title,
                    "reference": cfg.reference,
                }
        for folder, runs in Plan.asked.items():
            plan(folder, runs)


def unfinished() -> list[Cell]:
    """The runs that this process was asked for and that have not finished, or were refused."""
    return [
        cell
        for folder, runs in Plan.asked.items()
        for cell in read_cells(folder)
        if (cell.row, cell.seed) in runs and (cell.state is not State.DONE or cell.reason)
    ]


def describe(cells: list[Cell]) -> list[str]:
    """A line for each run: which, why, and where its log is."""
    lines = []
    for cell in cells:
        why = cell.reason or ("another process is at it" if cell.state is State.RUNNING else "not begun")
        lines.append(f"{cell.row} seed {cell.seed}: {why}" + (f" (log: {cell.log})" if cell.log else ""))
    return lines


def _trial(cfg: DictConfig) -> bool:
    return bool(cfg.trainer.get("fast_dev_run"))
