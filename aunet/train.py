"""One run: a row of a table with one seed. The only module of the package that sees Hydra and OmegaConf."""

import logging
import multiprocessing
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

import hydra
import numpy as np
import pytorch_lightning as pl
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger

from aunet import runs
from aunet.callbacks import History, SharedSkips, StepSeed
from aunet.companions import in_step
from aunet.config import CONF
from aunet.data.datamodule import FrameDataModule, summary_counts
from aunet.data.faults import DataError
from aunet.devices import Place, Termination, first_place
from aunet.evaluation import evaluate
from aunet.host import configure_host, describe_host, quiet_lightning
from aunet.module import ActionUnitModule
from aunet.network import forward_flops
from aunet.parallel import whole_batch_norms
from aunet.processes import end_with_parent
from aunet.tracking import close_loggers
from aunet.weights import WeightsError

log = logging.getLogger(__name__)

USER_ERRORS = (
    DataError, WeightsError, runs.RunError, FloatingPointError, OmegaConfBaseException, CompactHydraException
)  # fmt: skip
"""Errors whose message is all that a user needs."""


def train(cfg: DictConfig) -> dict[str, Any]:
    """Trains one row with one seed and leaves its run folder; a finished run is left as it is.

    Args:
        cfg: The composed configuration, see ``conf/config.yaml``.

    Returns:
        The content of ``metrics.json``: ``val/f1``, ``val/f1/AU<n>`` and facts about the run. For a trial
        (``trainer.fast_dev_run``), which leaves no folder, the last logged metrics.

    Raises:
        DataError, RunError: What the user has to mend.
        InstantiationException: Hydra's, around what a constructor has to say, such as a WeightsError.
    """
    # A DictConfig gives a dict with strings for keys; to_container says no more than "a container".
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    if len(cfg.data.aus) != cfg.num_aus:
        raise DataError(f"data.aus lists {len(cfg.data.aus)} AUs, num_aus says {cfg.num_aus}")
    place = first_place(config["trainer"])
    if place.count > 1 and HydraConfig.initialized() and HydraConfig.get().mode is RunMode.MULTIRUN:
        raise runs.RunError(
            "a sweep gives each row one process: leave trainer.devices at 1, or start the rows one by one"
        )
    configure_host(**cfg.host, processes=place.count)
    if multiprocessing.parent_process() is not None:  # a launcher's worker, which takes one row after another
        end_with_parent()
    quiet_lightning()
    title = f"{cfg.name} seed {cfg.seed}"
    datamodule: FrameDataModule = instantiate(cfg.data, _convert_="all")
    datamodule.prepare_data()
    if cfg.trainer.get("fast_dev_run"):
        datamodule.setup("fit")
        _, trainer = _fit(cfg, datamodule, Path(cfg.out_dir), title, [], place)
        return {key: float(value) for key, value in trainer.callback_metrics.items()}
    folder = Path(cfg.out_dir)
    with runs.locked(folder):
        with _quiet(logging.getLogger("aunet.data"), (folder / "metrics.json").exists()):
            datamodule.setup("fit")
        fingerprint = datamodule.fingerprint()
        old = folder / "config.yaml"
        old_config = OmegaConf.to_container(OmegaConf.load(old)) if old.exists() else None
        # As above: config.yaml was written from a dict.
        runs.check_unchanged(folder, old_config, config, fingerprint)  # type: ignore[arg-type]
        finished = runs.read_metrics(folder)
        if finished is not None:
            log.info(f"{title}: finished before, val/f1 {finished['val/f1']:.4f} ({folder})")
            return finished
        with runs.replacing(old) as temporary:
            OmegaConf.save(OmegaConf.create(config), temporary)
        data = {"data_fingerprint": fingerprint, "splits": summary_counts(datamodule.tables)}
        runs.begin(folder, data, describe_host() | {"processes": place.count})
        return _run(cfg, config, datamodule, folder, title, place)


def load(run_dir: str | Path) -> ActionUnitModule:
    """Rebuilds a run's network with its best weights, in evaluation mode.

    Args:
        run_dir: A finished run's folder.

    Raises:
        RunError: The folder holds no configuration or no weights.
    """
    folder = Path(run_dir)
    if not (folder / "config.yaml").exists() or not (folder / "best.ckpt").exists():
        raise runs.RunError(f"{folder} is no finished run: config.yaml or best.ckpt is missing")
    cfg = OmegaConf.load(folder / "config.yaml")
    backbone = cfg.model.network.backbone
    if "weights" in backbone:  # the checkpoint holds them; nothing needs to be fetched again
        backbone.weights = "none"
    if "vggface" in backbone:
        backbone.vggface = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the run was trained
        module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    module.load_state_dict(
        torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    )
    return module.eval()


def _run(
    cfg: DictConfig,
    config: dict[str, Any],
    datamodule: FrameDataModule,
    folder: Path,
    title: str,
    place: Place,
) -> dict[str, Any]:
    """Trains, evaluates the best epoch and finishes the run folder."""
    loggers = _loggers(cfg)
    succeeded = False
    started = time.perf_counter()
    try:
        for logger in loggers:
            logger.log_hyperparams(config)
        module, trainer = _fit(cfg, datamodule, folder, title, loggers, place)
        metrics: dict[str, Any] = dict(evaluate(module, datamodule, trainer, folder))
        # Lightning sets trainer.callbacks without declaring it.
        history = next(c for c in trainer.callbacks if isinstance(c, History))  # type: ignore[attr-defined]
        for logger in loggers:
            logger.log_metrics({f"best/{k}": v for k, v in metrics.items() if k.startswith("val/")})
        metrics |= {
            "row": cfg.name,
            "title": cfg.title,
            "seed": cfg.seed,
            "paper_f1": cfg.paper_f1,
            "data": datamodule.name,
            "data_fingerprint": datamodule.fingerprint(),
            "config_digest": runs.config_digest(config),
            "recipe_digest": runs.recipe_digest(config),
            "aus": list(datamodule.aus),
            "training_rates": (np.divide(*datamodule.training_counts())).tolist(),
            "epochs": len(history.rows),
            "best_epoch": int(max(history.rows, key=lambda row: float(row["val/f1"]))["epoch"]),
            "training_seconds": round(history.seconds(), 1),
            "wall_seconds": round(time.perf_counter() - started, 1),
            "parameters": sum(p.numel() for p in module.network.parameters()),
            "trainable_parameters": sum(p.numel() for p in module.network.parameters() if p.requires_grad),
            # Which distorts the probabilities in a known way, see aunet.measures. nn.Module types every attribute.
            "pos_weight": cast("torch.Tensor", module.loss.pos_weight).tolist(),
            "flops": forward_flops(module.network, cfg.data.image_size),
            "from_scratch": not module.network.pretrained,
            "frozen": module.network.frozen_backbone,
            "skipped_frames": {split: len(rows) for split, rows in datamodule.skipped.items() if rows},
        }
        runs.write_json(folder / "metrics.json", metrics)
        (folder / "last.ckpt").unlink(missing_ok=True)
        succeeded = True
        return metrics
    finally:
        close_loggers(loggers, succeeded)


def _take_part(place: Place, config: dict[str, Any]) -> None:
    """A further process of a run on several devices: trains with the first one, which keeps the folder."""
    cfg = OmegaConf.create(config)
    configure_host(**cfg.host, processes=place.count)
    quiet_lightning()
    datamodule: FrameDataModule = instantiate(cfg.data, _convert_="all")
    datamodule.setup("fit")
    _fit(cfg, datamodule, Path(cfg.out_dir), cfg.name, [], place)


def _fit(
    cfg: DictConfig,
    datamodule: FrameDataModule,
    folder: Path,
    title: str,
    loggers: list[Logger],
    place: Place,
) -> tuple[ActionUnitModule, pl.Trainer]:
    """Builds network and trainer, and trains; goes on from ``last.ckpt`` where there is one."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    module.to(memory_format=torch.channels_last)
    history = History(folder, title, every=None if cfg.progress else 20)
    callbacks: list[pl.Callback] = [StepSeed(cfg.seed, place.rank), SharedSkips(), Termination()]
    trial = bool(cfg.trainer.get("fast_dev_run"))
    if not trial:
        common: dict[str, Any] = {"dirpath": folder, "enable_version_counter": False}
        callbacks += [
            ModelCheckpoint(
                filename="best", monitor=cfg.monitor, mode="max", save_weights_only=True,
                auto_insert_metric_name=False, **common,
            ),
            history,
            # At the epoch's end, after the others: what it saves is never ahead of them.
            ModelCheckpoint(filename="last", monitor=None, save_on_train_epoch_end=True, **common),
            # And within long epochs.
            ModelCheckpoint(
                filename="last", monitor=None, train_time_interval=timedelta(minutes=cfg.checkpoint_minutes),
                **common,
            ),
        ]  # fmt: skip
    trainer: pl.Trainer = instantiate(
        cfg.trainer, callbacks=callbacks, logger=loggers or False,
        strategy=place.strategy(cfg.trainer.strategy), _convert_="all",
    )  # fmt: skip
    last = folder / "last.ckpt"
    resume = None if trial or not last.exists() else last
    if resume and not is_zipfile(last):  # its index, at the end, is missing
        log.info(f"{title}: {last} was cut off while it was written; starts anew")
        resume = None
    elif resume:
        log.info(f"{title}: goes on from its last checkpoint")
    features = folder / "features"
    device = trainer.strategy.root_device
    if place.count > 1:
        whole_batch_norms(module, device)
    try:
        if module.network.frozen_backbone and place.rank:
            datamodule.open_features(features)
        elif module.network.frozen_backbone:
            module.network.to(device)
            datamodule.cache_features(module.network.eval().features, device, features)
            module.network.train()
        with in_step(place, _take_part, OmegaConf.to_container(cfg, resolve=True)):
            trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    finally:
        if not place.rank:
            shutil.rmtree(features, ignore_errors=True)
    return module, trainer


def _loggers(cfg: DictConfig) -> list[Logger]:
    if not cfg.logger:
        return []
    built = instantiate(cfg.logger, _convert_="all")
    return list(built.values()) if isinstance(built, dict) else [built]


@contextmanager
def _quiet(logger: logging.Logger, quiet: bool) -> Iterator[None]:
    """Keeps a logger's notes back, for what a finished run has said before."""
    level = logger.level
    logger.setLevel(logging.WARNING if quiet else level)
    try:
        yield
    finally:
        logger.setLevel(level)


def _task(cfg: DictConfig) -> float | None:
    """What Hydra runs: one row. What the user has to mend becomes one sentence instead of a traceback."""
    try:
        return train(cfg).get("val/f1")
    except USER_ERRORS as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, USER_ERRORS):
            raise
        message = f"{cfg.name} seed {cfg.seed}: {cause}"
        if HydraConfig.get().mode is RunMode.MULTIRUN:  # at whose end Hydra tells the first failure only
            log.error(f"aunet: {message}")
        # Hydra prints this class without a traceback, and in a sweep goes on with the other rows.
        raise CompactHydraException(f"aunet: {message}") from None


main = hydra.main(version_base="1.3", config_path=str(CONF), config_name="config")(_task)
"""The command line of one run, or with ``--multirun`` of a sweep: reads ``sys.argv``."""
