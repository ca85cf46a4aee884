"""What finished runs hold: their configuration, their network and the data that they have seen."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aunet import runs
from aunet.data.datamodule import FrameDataModule
from aunet.data.faults import DataError
from aunet.module import ActionUnitModule

log = logging.getLogger(__name__)


def read_config(run_dir: str | Path) -> dict[str, Any]:
    """The resolved configuration of a run.

    Raises:
        RunError: The folder has none, or it is damaged.
    """
    file = Path(run_dir) / "config.yaml"
    try:
        config = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except (FileNotFoundError, NotADirectoryError):
        raise runs.RunError(f"{file.parent} is no run: {file.name} is missing") from None
    except Exception as error:  # the parser's, OmegaConf's, or that of text in another encoding
        raise runs.RunError(f"{file}: not a configuration ({error}); remove the run's folder") from None
    # A DictConfig gives a dict with strings for keys; to_container says no more than "a container".
    return config  # type: ignore[return-value]


def load(run_dir: str | Path) -> ActionUnitModule:
    """Rebuilds a run's network with its best weights, in evaluation mode.

    Args:
        run_dir: A finished run's folder.

    Raises:
        RunError: The folder holds no configuration or no weights, or the weights were trained on pictures
            prepared in another way than this version of aunet prepares them.
    """
    folder = Path(run_dir)
    module = _built(folder)
    try:
        checkpoint = torch.load(folder / "best.ckpt", map_location="cpu", weights_only=True)
        module.load_state_dict(checkpoint["state_dict"])
    except (
        RuntimeError,
        OSError,
        LookupError,
        TypeError,
        EOFError,
        UnpicklingError,
    ) as error:  # torch's, of damaged files
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        file = folder / "best.ckpt"
        raise runs.RunError(f"{file}: not this run's weights ({first}); restore it, or train anew") from None
    _check_preprocessing(folder, checkpoint.get("preprocessing"), module.network.preprocessing())
    return module.eval()


def load_untrained(run_dir: str | Path, seed: int = 0) -> ActionUnitModule:
    """The same network with random weights, in evaluation mode: what the shape alone gives.

    Args:
        run_dir: A finished run's folder.
        seed: Of the weights; the caller's random numbers stay as they are.

    Raises:
        RunError: As ``load``.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return _built(Path(run_dir)).eval()


def _built(folder: Path) -> ActionUnitModule:
    """The module of a finished run as its configuration builds it, without any trained weights."""
    _finished(folder, "best.ckpt")
    cfg = OmegaConf.create(read_config(folder))
    backbone = cfg.model.network.backbone
    if "weights" in backbone:  # the checkpoint holds them; nothing needs to be fetched again
        backbone.weights = "none"
    if "vggface" in backbone:
        backbone.vggface = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said when the run was trained
        module: ActionUnitModule = instantiate(cfg.model, _convert_="all")
    return module


def _check_preprocessing(folder: Path, trained: Mapping[str, Any] | None, here: Mapping[str, Any]) -> None:
    """Refuses weights whose pictures were prepared in another way.

    Runs of before aunet kept it have none in their checkpoint.
    """
    if trained is None:
        log.info(f"{folder}: older than the record of how crops are aligned; taken to be as it is now")
        return
    for key, value in here.items():
        if trained.get(key) != value:
            raise runs.RunError(
                f"{folder}: best.ckpt was trained with {key} {trained.get(key)}, but config.yaml and this "
                f"version of aunet make it {value}: restore the run's files, or use the version that made it"
            )


def load_data(run_dir: str | Path, root: str | Path | None = None) -> FrameDataModule:
    """The data that a finished run has seen, with its tables read; its predictions are rows of "val".

    Nothing is rendered or fetched: the data have to be there.

    Args:
        run_dir: A finished run's folder.
        root: Where the data lie now; None: where the run has found them.

    Raises:
        RunError: The folder is no finished run, or the data are not those that it has seen.
        DataError: The data are not there, or something is wrong with them.
    """
    folder = Path(run_dir)
    seen = _finished(folder)["data_fingerprint"]
    datamodule = data_module(folder, root)
    with quiet(logging.getLogger("aunet.data")):
        datamodule.setup("fit")
    if datamodule.fingerprint() != seen:
        raise runs.RunError(
            f"{datamodule.root} holds other data than those of {folder}: fingerprint "
            f"{datamodule.fingerprint()}, the run has seen {seen}"
        )
    return datamodule


def data_module(run_dir: str | Path, root: str | Path | None = None) -> FrameDataModule:
    """The data module of a finished run, which treats pictures as the run did; nothing is read yet.

    Args:
        run_dir: A finished run's folder.
        root: Where data lie, the run's or others; None: where the run has found them.

    Raises:
        RunError: The folder is no finished run.
        DataError: The data are not there.
    """
    folder = Path(run_dir)
    _finished(folder)
    cfg = OmegaConf.create(read_config(folder)["data"])
    cfg.prepare = None
    cfg.decode = "cpu"
    if root is not None:
        cfg.root = str(root)
    if not Path(cfg.root).exists():
        raise DataError(
            f"{cfg.root}, the data of {folder}, is not there: say where the data lie now (--data DIR)"
        )
    datamodule: FrameDataModule = instantiate(cfg, _convert_="all")
    return datamodule


def _finished(folder: Path, *files: str) -> dict[str, Any]:
    """Metrics of a finished run; RunError if it is none, or lacks its configuration or one of the files."""
    metrics = runs.read_metrics(folder)
    for name in ("metrics.json", "config.yaml", *files):
        if not (folder / name).exists():
            raise runs.RunError(f"{folder} is no finished run: {name} is missing")
    return metrics or {}


@contextmanager
def quiet(logger: logging.Logger) -> Iterator[None]:
    """Keeps a logger's notes back; its warnings come through."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
