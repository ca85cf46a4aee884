"""wandb without a network or a key, and closing of loggers."""

import os

import pytest
import wandb
from pytorch_lightning.loggers import CSVLogger

from aunet import tracking
from aunet.tracking import close_loggers, wandb_logger

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """A user without any setting of wandb."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / "none"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "dir"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(home / "cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(home / "config"))
    monkeypatch.setenv("WANDB_SILENT", "true")


@pytest.fixture(scope="module", autouse=True)
def torn_down():
    """Ends wandb's own process."""
    yield
    wandb.teardown()


def logged(folder, number):
    """A logger that has logged something recognisable."""
    logger = wandb_logger("aunet", "ours", f"ours-seed{number}", str(folder), job_type="table1")
    logger.log_hyperparams({"marker": f"marker-{number}"})
    logger.log_metrics({"val/f1": 0.5}, step=0)
    return logger


def records(folder):
    """Bytes of each offline run's file below a folder."""
    return [file.read_bytes() for file in folder.rglob("offline-run-*/run-*.wandb")]


def test_rows_without_a_key_give_an_offline_run_each(tmp_path, caplog):
    caplog.set_level("INFO", logger="aunet")
    ids = []
    for number in range(2):
        logger = logged(tmp_path / f"seed{number}", number)
        assert wandb.run is not None
        ids.append(logger.experiment.id)
        close_loggers([logger], succeeded=not number)
        assert wandb.run is None
    assert len(set(ids)) == 2
    for number in range(2):
        (record,) = records(tmp_path / f"seed{number}")
        assert f"marker-{number}".encode() in record
        assert f"marker-{1 - number}".encode() not in record
    assert caplog.text.count("`wandb sync`") == 2


def test_wandb_mode_is_respected(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    logger = logged(tmp_path / "seed0", 0)
    assert logger.experiment.disabled
    close_loggers([logger], succeeded=False)
    assert records(tmp_path) == []


@pytest.mark.parametrize(
    ("key", "mode", "expected"),
    [(None, None, "offline"), ("0" * 40, None, "online"), ("0" * 40, "offline", "offline")],
)
def test_mode_follows_key_and_environment(key, mode, expected, tmp_path, monkeypatch):
    asked = {}
    monkeypatch.setattr(tracking, "WandbLogger", lambda **options: asked.update(options))  # no server
    for name, value in (("WANDB_API_KEY", key), ("WANDB_MODE", mode)):
        if value is not None:
            monkeypatch.setenv(name, value)
    wandb_logger("aunet", "ours", "ours-seed0", str(tmp_path / "run"), job_type="table1")
    assert asked["mode"] == expected
    assert (asked["project"], asked["group"], asked["name"]) == ("aunet", "ours", "ours-seed0")
    assert asked["job_type"] == "table1"
    assert asked["save_dir"] == str(tmp_path / "run")
    assert (tmp_path / "run").is_dir()


def test_closing_writes_what_other_loggers_hold(tmp_path):
    logger = CSVLogger(str(tmp_path), name="", version="csv", flush_logs_every_n_steps=1000)
    logger.log_metrics({"val/f1": 0.25}, step=0)
    close_loggers([logger], succeeded=True)
    assert "0.25" in (tmp_path / "csv" / "metrics.csv").read_text()
