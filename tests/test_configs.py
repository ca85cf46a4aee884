"""Every yaml on disk composes, builds and, if it is a row, trains: an untested file fails here."""

import itertools
import re
import shlex
import warnings
from pathlib import Path

import hydra
import pytest
import pytorch_lightning as pl
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from omegaconf import OmegaConf
from pytorch_lightning.loggers import Logger

from aunet.config import CONF
from aunet.module import ActionUnitModule
from aunet.results import TABLE1
from aunet.tracking.loggers import close_loggers
from aunet.train import train

GROUPS = (
    "attention",
    "backbone",
    "classifier",
    "loss",
    "optimizer",
    "scheduler",
    "trainer",
    "logger",
    "sampling",
    "augmentation",
    "data",
)
EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/*/*.yaml")
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def test_every_folder_of_the_configuration_is_tested():
    folders = {path.name for path in CONF.iterdir() if path.is_dir()}
    assert folders == {*GROUPS, "experiment", "hydra"}


@pytest.mark.parametrize("option", [f"{g}={o}" for g in GROUPS[:6] for o in options(g)])
def test_option_builds_a_network_that_takes_frames(compose, option):
    cfg = compose(option)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = instantiate(cfg.model, _convert_="all")
    assert isinstance(module, ActionUnitModule)
    with torch.no_grad():
        logits = module.eval()(torch.randint(0, 256, (2, 3, 112, 112), dtype=torch.uint8))
    assert logits.shape == (2, 12)
    optimizer = module.configure_optimizers()
    assert optimizer["optimizer"].param_groups[0]["lr"] == pytest.approx(1e-3)


@pytest.mark.filterwarnings("ignore:.*fp16 is not supported on CPU")
@pytest.mark.parametrize("trainer", options("trainer"))
def test_trainer_builds(compose, trainer):
    built = instantiate(compose(f"trainer={trainer}").trainer, logger=False, _convert_="all")
    assert isinstance(built, pl.Trainer)
    assert built.max_epochs == 2


@pytest.mark.parametrize("logger", options("logger"))
@pytest.mark.usefixtures("nobody")
def test_logger_builds(compose, logger, tmp_path):
    cfg = compose(f"logger={logger}", "experiment=table1/ours", "seed=3")
    if logger == "none":
        assert not cfg.logger
        return
    built = instantiate(cfg.logger, _convert_="all")
    assert isinstance(built, Logger)
    built.log_metrics({"val/f1": 0.5}, step=1)
    close_loggers([built], succeeded=True)
    assert any(path.is_file() for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("option", [f"{g}={o}" for g in ("sampling", "augmentation") for o in options(g)])
@pytest.mark.filterwarnings("ignore")
def test_option_of_the_training_frames_trains(compose, option):
    metrics = train(compose("experiment=table1/ours", option, "trainer.fast_dev_run=1"))
    assert metrics["train/loss_epoch"] > 0


@pytest.mark.parametrize("data", options("data"))
def test_data_builds_with_as_many_aus_as_logits(compose, data, tmp_path):
    cfg = compose(f"data={data}", f"data.root={tmp_path}")
    datamodule = instantiate(cfg.data, _convert_="all")
    assert datamodule.name == data
    assert len(datamodule.aus) == cfg.num_aus


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_is_named_after_its_file(compose, experiment):
    cfg = compose(f"experiment={experiment}")
    assert f"{cfg.sweep}/{cfg.name}" == experiment
    assert cfg.title != cfg.name


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.filterwarnings("ignore")
def test_experiment_trains(compose, experiment):
    metrics = train(compose(f"experiment={experiment}", "trainer.fast_dev_run=1"))
    assert 0 <= metrics["val/f1"] <= 1
    assert metrics["train/loss_epoch"] > 0


def test_papers_rows_and_values_are_complete():
    reported = {path.stem: OmegaConf.load(path).paper_f1 for path in CONF.glob("experiment/table1/*.yaml")}
    assert {row: reported[row] for row in TABLE1} == {
        "baseline": 0.39,
        "resnet50": 0.3157,
        "inception_v3": 0.2383,
        "efficientnet": 0.3184,
        "efficientnet_lite0": None,
        "without_attention": 0.4535,
        "without_reweighting": 0.4323,
        "ours": 0.4803,
    }


def test_defaults_are_the_papers(compose):
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", ["data=affwild2", "data.root=/nowhere", "experiment=table1/ours"])
    assert (cfg.lr, cfg.lr_after, cfg.lr_epochs, cfg.batch_size) == (1e-3, 1e-4, 5, 256)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert list(cfg.backbone.filters) == [32, 64, 128, 128, 256, 256]


def test_one_recipe_for_all_rows():
    """No row of the paper's sets an optimiser, a schedule or a batch of its own."""
    for row in TABLE1:
        content = OmegaConf.load(CONF / "experiment" / "table1" / f"{row}.yaml")
        assert set(content) <= {"defaults", "name", "sweep", "title", "paper_f1"}, row
        for (group,) in content.get("defaults", []):
            assert group.removeprefix("override /") in {"backbone", "attention", "classifier", "loss"}, row


def commands(text: str) -> list[str]:
    """The ``python experiments/train.py`` commands of a text."""
    return re.findall(r"^ *python experiments/train\.py (.*?)(?: +#.*)?$", text, re.MULTILINE)


README = Path(__file__).parent.parent / "README.md"


@pytest.mark.parametrize("command", commands(README.read_text()))
def test_readmes_commands_compose(command):
    words = [word.replace("DIR", "/nowhere") for word in shlex.split(command)]
    multirun = "--multirun" in words
    parser = OverridesParser.create()
    choices = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        if o.is_sweep_override()
        else [o.input_line]
        # A cluster's launcher may not be installed; tests/cluster has them.
        for o in parser.parse_overrides([word for word in words if not word.startswith(("--", "hydra"))])
    ]
    jobs = list(itertools.product(*choices))
    assert multirun == (len(jobs) > 1)
    for job in jobs:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            assert hydra.compose("config", list(job)).name
