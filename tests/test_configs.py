"""Every yaml on disk composes, builds and, if it is a row, trains: an untested file fails here."""

import warnings
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from aunet.module import ActionUnitModule
from aunet.train import CONF, train

GROUPS = (
    "attention",
    "backbone",
    "classifier",
    "loss",
    "optimizer",
    "scheduler",
    "trainer",
    "logger",
    "data",
)
EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in CONF.glob("experiment/*/*.yaml")
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


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
def test_logger_composes(compose, logger):
    cfg = compose(f"logger={logger}")
    assert not cfg.logger or "_target_" in cfg.logger


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
    assert reported == {
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
    import hydra

    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = hydra.compose("config", ["data=affwild2", "data.root=/nowhere", "experiment=table1/ours"])
    assert (cfg.lr, cfg.lr_after, cfg.lr_epochs, cfg.batch_size) == (1e-3, 1e-4, 5, 256)
    assert list(cfg.optimizer.betas) == [0.9, 0.999]
    assert list(cfg.backbone.filters) == [32, 64, 128, 128, 256, 256]


def test_one_recipe_for_all_rows():
    """No row of Table 1 sets an optimiser, a schedule or a batch of its own."""
    for path in CONF.glob("experiment/table1/*.yaml"):
        keys = set(OmegaConf.load(path)) - {"defaults", "name", "sweep", "title", "paper_f1"}
        assert not keys, f"{Path(path).name} sets {keys}"
