"""Loggers that need more than a class and its arguments, and the end of all."""

import logging
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger

from aunet.runs import RunError
from aunet.tracking import on_wandb
from aunet.tracking.attempts import attempt_name, attempts


def tensorboard_logger(save_dir: str) -> TensorBoardLogger:
    """Event files in ``tensorboard/`` of a run folder.

    Args:
        save_dir: The run folder.

    Raises:
        RunError: TensorBoard is not installed.
    """
    require("tensorboard", "logger=tensorboard", "tensorboard")
    return TensorBoardLogger(save_dir, name="", version="tensorboard", default_hp_metric=False)


def mlflow_logger(store: str, experiment: str, name: str, save_dir: str) -> MLFlowLogger:
    """Starts a run in MLflow's own format, in a local folder that all runs share.

    A SQLite database: in MLflow's older format, of files only, "val/f1" and "val/f1/AU1" exclude each other.

    Args:
        store: That folder; takes ``mlflow.db`` and ``artifacts/``.
        experiment: Runs of one experiment are compared with each other: the sweep.
        name: Of the run; from the second attempt on, its number is added.
        save_dir: The run folder.

    Raises:
        RunError: MLflow is not installed.
    """
    for module in ("mlflow", "sqlalchemy", "alembic"):
        require(module, "logger=mlflow", "mlflow")
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table that it makes
    folder = Path(store).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # another row of the sweep may be making the same
        logger = MLFlowLogger(
            experiment,
            run_name=attempt_name(name, attempts(Path(save_dir))),
            tracking_uri=f"sqlite:///{folder / 'mlflow.db'}",
            artifact_location=(folder / "artifacts").as_uri(),
            synchronous=False,  # no step waits for the database
        )
        _ = logger.experiment  # starts it
    return logger


def require(module: str, asked: str, extra: str) -> None:
    """Refuses what was asked for where a package behind it is not installed.

    Raises:
        RunError: One sentence that names the extra.
    """
    if find_spec(module) is None:
        raise RunError(
            f"{asked} needs the extra '{extra}', which is not installed: pip install 'aunet[{extra}]', or "
            f"pip install -e '.[{extra}]' in a checkout"
        )


def close_loggers(loggers: Iterable[Logger], succeeded: bool) -> None:
    """Ends every logger's run; without it wandb would write the next row of a sweep into this one."""
    for logger in loggers:
        if isinstance(logger, MLFlowLogger):
            import mlflow

            mlflow.flush_async_logging()
        logger.finalize("success" if succeeded else "failed")
        if isinstance(logger, on_wandb.RunLogger):
            on_wandb.finish(logger, succeeded)
