"""The training itself: from a configuration and data to a trained network, on one device or several."""

import logging
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from aunet.callbacks import History, SharedSkips, StepSeed
from aunet.checkpoints import RunCheckpoint, WholeCheckpoints
from aunet.companions import in_step
from aunet.data.datamodule import FrameDataModule
from aunet.devices import Place, Termination
from aunet.dynamics import Dynamics
from aunet.host import cluster_plugins, configure_host, quiet_lightning
from aunet.module import ActionUnitModule
from aunet.parallel import whole_batch_norms
from aunet.tracking.epochs import EpochLog

log = logging.getLogger(__name__)


def fit(
    cfg: DictConfig,
    datamodule: FrameDataModule,
    folder: Path,
    title: str,
    loggers: list[Logger],
    place: Place,
) -> tuple[ActionUnitModule, pl.Trainer]:
    """Builds network and trainer, and trains; goes on from ``last.ckpt`` where there is one.

    Args:
        cfg: The composed configuration.
        datamodule: Gives the frames; set up.
        folder: The run folder.
        title: Of the run, for what is said.
        loggers: Lightning's.
        place: Of this process among those of the run.

    Returns:
        The module as the last epoch left it, and the trainer.
    """
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    module.to(memory_format=torch.channels_last)
    history = History(folder, title, every=None if cfg.progress else 20)
    callbacks: list[pl.Callback] = [StepSeed(cfg.seed, place.rank), SharedSkips(), Termination()]
    if cfg.dynamics_every is not None:
        callbacks.append(Dynamics(title, cfg.dynamics_every))
    trial = bool(cfg.trainer.get("fast_dev_run"))
    if not trial:
        callbacks += [
            RunCheckpoint(folder, "best", monitor=cfg.monitor, mode="max", save_weights_only=True),
            history,
            EpochLog(),
            # At the epoch's end, after the others: what it saves is never ahead of them.
            RunCheckpoint(folder, "last", save_on_train_epoch_end=True),
            RunCheckpoint(folder, "last", train_time_interval=timedelta(minutes=cfg.checkpoint_minutes)),
        ]
    trainer: pl.Trainer = instantiate(
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[WholeCheckpoints(), *cluster_plugins()],
        strategy=place.strategy(cfg.trainer.strategy),
        _convert_="all",
    )
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


def _take_part(place: Place, config: dict[str, Any]) -> None:
    """A further process of a run on several devices: trains with the first one, which keeps the folder."""
    cfg = OmegaConf.create(config)
    configure_host(**cfg.host, processes=place.count)
    quiet_lightning()
    datamodule: FrameDataModule = instantiate(cfg.data, _convert_="all")
    datamodule.setup("fit")
    fit(cfg, datamodule, Path(cfg.out_dir), cfg.name, [], place)
