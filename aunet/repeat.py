"""The command that trains a row again: derived from what the run has recorded, and checked against it."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from aunet.config import CONF, compose
from aunet.runs import ABSENT, RunError, changes

_PLAIN = re.compile(r"[A-Za-z_][\w.-]*")
"""Words that mean themselves in Hydra's grammar, but for its constants."""


def train_again(folder: Path, seeds: Sequence[int]) -> list[str]:
    """Shell commands that train a row's seeds again, from the top of the source tree.

    The row's file in ``conf/experiment`` is composed, with what was overridden on the command line, until
    nothing is left that can change a result; places, such as that of the data, are for the reader to say.
    Where that cannot be done, each command names the configuration that the run has left.

    Args:
        folder: A run of the row.
        seeds: Of the row, one or more; their folders stand beside it.

    Raises:
        RunError: The run's configuration is missing or damaged.
    """
    file = folder / "config.yaml"
    try:
        # Keys of a configuration are strings; to_container says no more than "a container".
        config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(file), resolve=True)  # type: ignore[assignment]
        row, data = f"{config['sweep']}/{config['name']}", str(config["data"]["name"])
        made = bool(config["data"].get("prepare"))
    except Exception as error:  # whatever PyYAML, OmegaConf and the look-ups make of a damaged file
        raise RunError(f"{file}: no configuration of a run ({error!r})") from None
    words = _shortest(config, row, data)
    if words is not None:
        several = ["--multirun"] if len(seeds) > 1 else []
        place = [] if made else ["data.root=DIR"]
        return [_command(*several, *words, *place, f"seed={','.join(map(str, seeds))}")]
    commands = []
    for seed in seeds:
        out = f"again/{row}/seed{seed}"
        own = str((folder.parent / f"seed{seed}").resolve())
        to = [f"out_dir={out}", f"trainer.default_root_dir={out}", "logger=null"]
        commands.append(_command("--config-path", own, "--config-name", "config", *to))
    return commands


def _shortest(config: Mapping[str, Any], row: str, data: str) -> list[str] | None:
    """Overrides that compose a configuration, but for the seed; None where single keys do not suffice."""
    common = [f"data={data}"] if (CONF / "data" / f"{data}.yaml").exists() else []
    files = [file for file in sorted(CONF.glob("experiment/*/*.yaml")) if file.stem == config["name"]]
    titles = {
        f"{file.parent.name}/{file.stem}": OmegaConf.select(OmegaConf.load(file), "title") for file in files
    }
    experiments = sorted(titles, key=lambda name: (name != row, titles[name] != config.get("title")))
    found = []
    for words in ([f"experiment={name}", *common] for name in experiments):
        whole = _overrides(config, words)
        if whole == words:
            return words
        if whole is not None:
            found.append(whole)
    return min(found, key=len) if found else _overrides(config, common)


def _overrides(config: Mapping[str, Any], words: list[str]) -> list[str] | None:
    """Overrides that begin with ``words``."""
    while True:
        try:
            composed = OmegaConf.to_container(compose([*words, f"seed={config.get('seed')}"]), resolve=True)
        except (HydraException, OmegaConfBaseException):
            return None
        different = changes(composed, config)  # type: ignore[arg-type]  # as above
        if not different:
            return words
        if any(ABSENT in values for values in different.values()):
            return None
        # The upper ones first: others follow them.
        least = min(key.count(".") for key in different)
        further = [f"{key}={_value(new)}" for key, (_, new) in different.items() if key.count(".") == least]
        if any(word in words for word in further):  # without effect
            return None
        words = [*words, *further]


def _value(text: str) -> str:
    """A JSON value in Hydra's grammar."""
    value = json.loads(text)
    plain = isinstance(value, str) and _PLAIN.fullmatch(value)
    return value if plain and value.lower() not in ("null", "true", "false", "nan", "inf") else text


def _command(*words: str) -> str:
    return shlex.join(["python", "experiments/train.py", *words])
