"""Loggers that need more than a class and its arguments; the only module that names wandb."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

log = logging.getLogger(__name__)


def wandb_logger(project: str, group: str, name: str, save_dir: str, **options: Any) -> WandbLogger:
    """A wandb run: online where a key is set, offline otherwise, never a prompt.

    Args:
        project: wandb project.
        group: Runs of one group are compared together; the table row.
        name: Name of the run.
        save_dir: Folder that takes the local copy, which ``wandb sync`` uploads from.
        **options: Further arguments of ``wandb.init``.
    """
    mode = os.environ.get("WANDB_MODE")
    if mode is None:
        mode = "online" if wandb.api.api_key else "offline"
        if mode == "offline":
            log.info(f"wandb: no key is set, so the run is kept in {save_dir} (upload it by `wandb sync`)")
    Path(save_dir).mkdir(parents=True, exist_ok=True)  # wandb falls back to a temporary folder without it
    return WandbLogger(
        project=project,
        group=group,
        name=name,
        save_dir=save_dir,
        mode=mode,
        reinit="finish_previous",
        settings=wandb.Settings(finish_timeout=60),
        **options,
    )


def close_loggers(loggers: Iterable[Logger], succeeded: bool) -> None:
    """Ends every logger's run; without it wandb would write the next row of a sweep into this one."""
    for logger in loggers:
        logger.finalize("success" if succeeded else "failed")
        if isinstance(logger, WandbLogger):
            logger.experiment.finish(exit_code=0 if succeeded else 1)
