"""One run: a row of a table with one seed."""

import logging
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning.loggers import Logger

from aunet import runs
from aunet.callbacks import History
from aunet.data.datamodule import FrameDataModule, summary_counts
from aunet.data.faults import DataError
from aunet.data.rendered.facts import rendered_only
from aunet.devices import Place, first_place
from aunet.evaluation import evaluate
from aunet.failures import recorded
from aunet.files import replacing, write_json
from aunet.fitting import fit
from aunet.host import configure_host, describe_host, quiet_lightning
from aunet.locks import locked
from aunet.network import forward_flops
from aunet.tracking.attempts import describe
from aunet.tracking.loggers import close_loggers
from aunet.tracking.results import log_results, may_send_faces
from aunet.trained import load, quiet

__all__ = ["load", "train"]

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
        _, datamodule, place = _prepared(cfg)
        datamodule.setup("fit")
        _, trainer = fit(cfg, datamodule, folder, "trial", [], place)
        return {key: float(value) for key, value in trainer.callback_metrics.items()}
    with recorded(folder):
        if runs.read_metrics(folder) is None:
            with locked(folder):
                if runs.read_metrics(folder) is None:  # another process may have finished it meanwhile
                    with runs.logged(folder / "train.log"):
                        return _attempt(cfg, folder)
        with quiet(logging.getLogger("aunet.data")):  # what it says was said before
            _checked(cfg, folder)
        _tidy(folder)  # whoever finished it may have been killed before that
        finished = runs.read_metrics(folder) or {}
        log.info(f"{_title(cfg)}: finished before, val/f1 {finished['val/f1']:.4f} ({folder})")
        return finished


def _prepared(cfg: DictConfig) -> tuple[dict[str, Any], FrameDataModule, Place]:
    """The resolved configuration, the data module, and this process' place, on a machine that is set up."""
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
    quiet_lightning()
    datamodule: FrameDataModule = instantiate(cfg.data, _convert_="all")
    datamodule.prepare_data()
    return config, datamodule, place


def _checked(cfg: DictConfig, folder: Path) -> tuple[dict[str, Any], FrameDataModule, Place]:
    """The same with the data read; refuses a folder that holds a run of another configuration or data."""
    config, datamodule, place = _prepared(cfg)
    datamodule.setup("fit")
    old = folder / "config.yaml"
    old_config = OmegaConf.to_container(OmegaConf.load(old)) if old.exists() else None
    # As above: config.yaml was written from a dict.
    runs.check_unchanged(folder, old_config, config, datamodule.fingerprint())  # type: ignore[arg-type]
    return config, datamodule, place


def _attempt(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Trains, evaluates the best epoch and finishes the run folder, which this process holds."""
    config, datamodule, place = _checked(cfg, folder)
    title = _title(cfg)
    with_faces = may_send_faces(config["log_frames"], config["data"]["name"])
    with replacing(folder / "config.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(config), temporary)
    data = {"data_fingerprint": datamodule.fingerprint(), "splits": summary_counts(datamodule.tables)}
    runs.begin(folder, data, describe_host() | {"processes": place.count})
    loggers = _loggers(cfg)
    succeeded = False
    started = time.perf_counter()
    try:
        for logger in loggers:
            logger.log_hyperparams(describe(folder, config))
        module, trainer = fit(cfg, datamodule, folder, title, loggers, place)
        metrics: dict[str, Any] = dict(evaluate(module, datamodule, trainer, folder))
        # Lightning sets trainer.callbacks without declaring it.
        history = next(c for c in trainer.callbacks if isinstance(c, History))  # type: ignore[attr-defined]
        log_results(loggers, module, datamodule, folder, trainer.global_step, with_faces)
        metrics |= {
            "row": cfg.name,
            "title": cfg.title,
            "seed": cfg.seed,
            "paper_f1": cfg.paper_f1,
            "reference": cfg.reference,
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
            "rendered_only": rendered_only(config["data"]),
            "from_scratch": not module.network.pretrained,
            "frozen": module.network.frozen_backbone,
            "skipped_frames": {split: len(rows) for split, rows in datamodule.skipped.items() if rows},
        }
        write_json(folder / "metrics.json", metrics)
        _tidy(folder)
        succeeded = True
        return metrics
    finally:
        close_loggers(loggers, succeeded)


def _tidy(folder: Path) -> None:
    """Removes what a finished run needs no more."""
    for name in ("last.ckpt", "progress.json"):
        (folder / name).unlink(missing_ok=True)


def _loggers(cfg: DictConfig) -> list[Logger]:
    if not cfg.logger:
        return []
    built = instantiate(cfg.logger, _convert_="all")
    return list(built.values()) if isinstance(built, dict) else [built]


def _title(cfg: DictConfig) -> str:
    return f"{cfg.name} seed {cfg.seed}"
