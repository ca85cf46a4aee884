"""Commands that train a row again: composed, each must give the configuration that the run has left."""

import shlex

import hydra
import pytest
from omegaconf import OmegaConf

from aunet.config import CONF
from aunet.repeat import train_again
from aunet.runs import RunError, config_digest


@pytest.fixture
def left(compose, tmp_path):
    """Leaves the configuration of a run, and returns its folder and digest."""

    def write(*overrides):
        config = OmegaConf.to_container(compose(*overrides), resolve=True)
        folder = tmp_path / config["sweep"] / config["name"] / f"seed{config['seed']}"
        folder.mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        return folder, config_digest(config)

    return write


def composed(words):
    """Digest of the configuration that overrides compose."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return config_digest(OmegaConf.to_container(hydra.compose("config", words), resolve=True))


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=table1/baseline"],
        ["experiment=table1/without_attention", "lr=0.01", "sweep=a_b", "seed=3"],
        ["experiment=attention_grid/per_au_3x3", "data.read.drop_row_if_any=false"],
        ["experiment=table1/resnet50", "sweep='it is, (not) this'", "optimizer.betas=[0.8,0.9]"],
        ["experiment=table1/without_attention", "sweep=true_story", "monitor='null'"],
        ["name=wide", "backbone.filters=[8,8,8,8,8,8]", "bn_momentum=0.01"],
    ],
)
def test_overrides_are_found(overrides, left):
    folder, digest = left(*overrides)
    (command,) = train_again(folder, [int(folder.name.removeprefix("seed"))])
    python, script, *words = shlex.split(command)
    assert (python, script) == ("python", "experiments/train.py")
    assert words[-2] == "data.root=DIR"
    assert composed(words) == digest
    experiments = [word for word in words if word.startswith("experiment=")]
    assert experiments == [word for word in overrides if word.startswith("experiment=")]


def test_only_what_differs_is_named(left):
    folder, _ = left("experiment=table1/baseline", "lr=0.01")
    (command,) = train_again(folder, [0])
    words = set(shlex.split(command))
    assert "lr=0.01" in words
    assert not any(word.startswith(("optimizer", "scheduler")) for word in words)  # they follow lr


def test_seeds_share_a_command(left):
    folder, _ = left("experiment=table1/baseline")
    (command,) = train_again(folder, [0, 2, 5])
    assert command.startswith("python experiments/train.py --multirun experiment=table1/baseline ")
    assert command.endswith(" seed=0,2,5")


def test_rendered_data_are_made_anew(tmp_path):
    folder = tmp_path / "table1" / "ours" / "seed0"
    folder.mkdir(parents=True)
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", ["experiment=table1/baseline", "data=rendered_medium"])
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    assert train_again(folder, [0]) == [
        "python experiments/train.py experiment=table1/baseline data=rendered_medium seed=0"
    ]


@pytest.mark.parametrize(
    "overrides",
    [
        ["experiment=table1/baseline", "attention=per_au"],
        ["name=a", "sampling=strided"],
        ["name=b", "+further=1"],
    ],
)
def test_else_the_runs_own_configuration_is_named(overrides, left):
    folder, digest = left(*overrides)
    first, second = train_again(folder, [0, 4])
    assert str(folder.with_name("seed4")) in shlex.split(second)
    _, _, path, place, name, config, *words = shlex.split(first)
    assert (path, place, name, config) == ("--config-path", str(folder), "--config-name", "config")
    with hydra.initialize_config_dir(place, version_base="1.3"):
        again = OmegaConf.to_container(hydra.compose(config, words))
    assert config_digest(again) == digest
    assert again["out_dir"].startswith("again/")


@pytest.mark.parametrize(
    "content", [None, "", "- a\n", "name: x\n", "a: [", "\0", "seed: ${nosuch}\nname: x\n"]
)
def test_damaged_configurations_are_named(content, tmp_path):
    if content is not None:
        (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(RunError, match=r"config\.yaml: no configuration of a run"):
        train_again(tmp_path, [0])
