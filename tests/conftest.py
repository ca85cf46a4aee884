"""Fixtures shared by the tests: a tiny Aff-Wild2 folder, runs on it, and a user without any key."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
import pytest
import torch
from layouts import write_affwild2
from omegaconf import DictConfig

from aunet.config import CONF

# Test processes share the cores, and so do those that they start.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

MINUTES = (
    *("chaos", "sweeps", "reproduce", "train", "wandb", "export", "ddp", "store", "tracking", "backbones"),
    "rendered",
)
"""Files of tests that take long: first, so that the processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the files; within one the order stays."""
    items.sort(key=lambda item: item.path.stem.removeprefix("test_") not in MINUTES)


@pytest.fixture(scope="session")
def affwild2(tmp_path_factory) -> Path:
    """A tiny data set in Aff-Wild2's layout, not to be changed."""
    return write_affwild2(tmp_path_factory.mktemp("affwild2"))


@pytest.fixture
def compose(affwild2, tmp_path) -> Callable[..., DictConfig]:
    """Composes a configuration on the tiny data, its runs under tmp_path."""

    def composed(*overrides: str) -> DictConfig:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra.compose(
                "config",
                [
                    *("data=affwild2", f"data.root={affwild2}", f"runs={tmp_path}", "weights=none"),
                    *("logger=none", "progress=false", "host.threads=1", "host.keep_large_blocks=false"),
                    *("batch_size=4", "bn_momentum=0.1", "epochs=2", *overrides),
                ],
            )

    return composed


@pytest.fixture
def nobody(tmp_path, monkeypatch) -> Iterator[None]:
    """A user without any key or setting of wandb, which reads them once."""
    import wandb

    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "home"))
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "home" / kind.lower()))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB__DISABLE_STATS", "true")
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture(scope="module")
def browser():
    """A Chromium without a window."""
    from chromium import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()
