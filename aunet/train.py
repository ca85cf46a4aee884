"""One run: a row of a table with one seed."""

import logging
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from zipfile import is_zipfile

import numpy as np
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from aunet import runs
from aunet.callbacks import History, StepSeed
from aunet.checkpoints import WholeCheckpoints
from aunet.data.datamodule import FrameDataModule, summary_counts
from aunet.data.faults import DataError
from aunet.evaluation import evaluate
from aunet.failures import recorded
from aunet.host import configure_host, describe_host, quiet_lightning
from aunet.locks import locked
from aunet.module import ActionUnitModule
from aunet.network import forward_flops
from aunet.tracking import close_loggers

log = logging.getLogger(__name__)


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
    folder = Path(cfg.out_dir)
    if cfg.trainer.get("fast_dev_run"):
        _, datamodule = _prepared(cfg)
        datamodule.setup("fit")
        _, trainer = _fit(cfg, datamodule, folder, "trial", [])
        return {key: float(value) for key, value in trainer.callback_metrics.items()}
    if _rank():  # a further process of a run on several devices: the first one keeps the folder
        _, datamodule = _prepared(cfg)
        datamodule.setup("fit")
        _fit(cfg, datamodule, folder, "", [])
        return {}
    with recorded(folder):
        if runs.read_metrics(folder) is None:
            with locked(folder):
                if runs.read_metrics(folder) is None:  # another process may have finished it meanwhile
                    with runs.logged(folder / "train.log"):
                        return _attempt(cfg, folder)
        with _quiet(logging.getLogger("aunet.data")):  # what it says was said before
            _checked(cfg, folder)
        finished = runs.read_metrics(folder) or {}
        log.info(f"{_title(cfg)}: finished before, val/f1 {finished['val/f1']:.4f} ({folder})")
        return finished


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


def _prepared(cfg: DictConfig) -> tuple[dict[str, Any], FrameDataModule]:
    """The resolved configuration and the data module, on a machine that is set up."""
    # A DictConfig gives a dict with strings for keys; to_container says no more than "a container".
    config: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    if len(cfg.data.aus) != cfg.num_aus:
        raise DataError(f"data.aus lists {len(cfg.data.aus)} AUs, num_aus says {cfg.num_aus}")
    configure_host(**cfg.host)
    quiet_lightning()
    datamodule: FrameDataModule = instantiate(cfg.data, _convert_="all")
    datamodule.prepare_data()
    return config, datamodule


def _checked(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], FrameDataModule]:
    """The same with the data read; refuses a folder that holds a run of another configuration or data."""
    config, datamodule = _prepared(cfg)
    datamodule.setup("fit")
    old = folder / "config.yaml"
    old_config = OmegaConf.to_container(OmegaConf.load(old)) if old.exists() else None
    # As above: config.yaml was written from a dict.
    runs.check_unchanged(folder, old_config, config, datamodule.fingerprint())  # type: ignore[arg-type]
    return config, datamodule


def _attempt(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Trains, evaluates the best epoch and finishes the run folder, which this process holds."""
    config, datamodule = _checked(cfg, folder)
    title = _title(cfg)
    with runs.replacing(folder / "config.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(config), temporary)
    data = {"data_fingerprint": datamodule.fingerprint(), "splits": summary_counts(datamodule.tables)}
    runs.begin(folder, data, describe_host())
    loggers = _loggers(cfg)
    succeeded = False
    started = time.perf_counter()
    try:
        for logger in loggers:
            logger.log_hyperparams(config)
        module, trainer = _fit(cfg, datamodule, folder, title, loggers)
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
            # It distorts the probabilities, see aunet.measures; nn.Module does not type its buffers.
            "pos_weight": cast("torch.Tensor", module.loss.pos_weight).tolist(),
            "flops": forward_flops(module.network, cfg.data.image_size),
            "from_scratch": not module.network.pretrained,
            "frozen": module.network.frozen_backbone,
            "skipped_frames": {split: len(rows) for split, rows in datamodule.skipped.items() if rows},
        }
        runs.write_json(folder / "metrics.json", metrics)
        for name in ("last.ckpt", "progress.json"):
            (folder / name).unlink(missing_ok=True)
        succeeded = True
        return metrics
    finally:
        close_loggers(loggers, succeeded)


def _fit(
    cfg: DictConfig, datamodule: FrameDataModule, folder: Path, title: str, loggers: list[Logger]
) -> tuple[ActionUnitModule, pl.Trainer]:
    """Builds network and trainer, and trains; goes on from ``last.ckpt`` where there is one."""
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    module.to(memory_format=torch.channels_last)
    history = History(folder, title, every=None if cfg.progress else 20)
    callbacks: list[pl.Callback] = [StepSeed(cfg.seed)]
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
        cfg.trainer,
        callbacks=callbacks,
        logger=loggers or False,
        plugins=[WholeCheckpoints(), *instantiate(cfg.trainer.get("plugins") or [], _convert_="all")],
        _convert_="all",
    )
    last = folder / "last.ckpt"
    resume = None if trial or not last.exists() else last
    if resume and not is_zipfile(last):  # its index, at the end, is missing
        log.info(f"{title}: {last} was cut off while it was written; starts anew")
        resume = None
    elif resume:
        log.info(f"{title}: goes on from its last checkpoint")
    features = folder / f"features{_rank() or ''}"
    try:
        if module.network.frozen_backbone:
            device = trainer.strategy.root_device
            module.network.to(device)
            datamodule.cache_features(module.network.eval().features, device, features)
            module.network.train()
        trainer.fit(module, datamodule=datamodule, ckpt_path=resume, weights_only=True)
    finally:
        shutil.rmtree(features, ignore_errors=True)
    return module, trainer


def _loggers(cfg: DictConfig) -> list[Logger]:
    if not cfg.logger:
        return []
    built = instantiate(cfg.logger, _convert_="all")
    return list(built.values()) if isinstance(built, dict) else [built]


def _rank() -> int:
    """Number of this process among those of a run on several devices, as Lightning set it at its import."""
    return int(getattr(rank_zero_only, "rank", 0))


def _title(cfg: DictConfig) -> str:
    return f"{cfg.name} seed {cfg.seed}"


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keeps a logger's notes back."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
