"""Where the configuration lies, and the parts of it that commands other than training ask for."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import CompactHydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aunet.data.datamodule import FrameDataModule
from aunet.data.detect import detect
from aunet.data.faults import DataError
from aunet.postprocess import Postprocess

_PACKAGED = Path(__file__).parent / "conf"
CONF = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parent.parent / "conf"
"""The configuration folder: inside an installed package, or at the top of the source tree."""


def compose(overrides: Sequence[str]) -> DictConfig:
    """The composed configuration, as on the command line."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("config", overrides=list(overrides))


def data_module(path: str | Path, name: str | None = None, overrides: Sequence[str] = ()) -> FrameDataModule:
    """The data module of a data set on disk.

    Args:
        path: Its folder, its manifest, or a store packed from it.
        name: Name of a file in ``conf/data``; None: recognised by what is there.
        overrides: As on the command line, for instance ``["data.read.crops=faces"]``.

    Raises:
        DataError: There is nothing at ``path``, or the overrides are not understood.
    """
    return named_data([f"data={name or detect(Path(path))}", f"data.root={quoted(str(path))}", *overrides])


def named_data(overrides: Sequence[str]) -> FrameDataModule:
    """The data module that overrides name.

    Args:
        overrides: As on the command line, for instance ``["data=affwild2", "data.root=DIR"]``.

    Raises:
        DataError: The overrides are not understood.
    """
    try:
        module: FrameDataModule = instantiate(compose(overrides).data, _convert_="all")
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise DataError(str(_cause(error))) from None
    return module


def postprocess(name: str = "none", overrides: Sequence[str] = ()) -> Postprocess:
    """A file of ``conf/postprocess``, built.

    Args:
        name: Of the file.
        overrides: As on the command line, for instance ``["postprocess.smoothing_seconds=0.5"]``.

    Raises:
        ValueError: There is no such file, or a value is out of range; names it.
    """
    known = sorted(file.stem for file in (CONF / "postprocess").glob("*.yaml"))
    if name not in known:
        raise ValueError(f"there is no postprocess={name}; there are {', '.join(known)}")
    keys = [field.name for field in dataclasses.fields(Postprocess)]
    for one in overrides:
        if one.partition("=")[0] not in [f"postprocess.{key}" for key in keys]:
            raise ValueError(f"{one}: say postprocess.KEY=VALUE, where KEY is one of {', '.join(keys)}")
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra.compose(f"postprocess/{name}", list(overrides))
        built: Postprocess = instantiate(cfg.postprocess, _convert_="all")
    except (CompactHydraException, OmegaConfBaseException) as error:
        raise ValueError(str(_cause(error))) from None
    return built


def prepare_data(overrides: Sequence[str], **changes: Any) -> Path:
    """Makes the data set that a configuration names, where it can be made and is not there yet.

    Args:
        overrides: As on the command line, for instance ``["data=rendered_large"]``.
        **changes: Arguments of the set's ``prepare`` to replace, for instance ``seed``.

    Returns:
        The data set's folder.
    """
    cfg = compose(overrides)
    for key, value in changes.items():
        OmegaConf.update(cfg, f"data.prepare.{key}", value)
    if "prepare" in cfg.data:
        instantiate(cfg.data.prepare, _convert_="all")(out=cfg.data.root)
    return Path(cfg.data.root)


def quoted(text: str) -> str:
    """A value in Hydra's grammar, for any name of a folder."""
    return "'" + text.replace("'", "\\'") + "'"


def _cause(error: Exception) -> BaseException:
    """What a constructor had to say, which Hydra wraps, or the error itself."""
    return error.__cause__ or error if isinstance(error, InstantiationException) else error
