"""What a user is told whose command needs a launcher that is not installed; cluster/ tests the launchers."""

import importlib.machinery
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from aunet import launchers
from aunet.config import CONF


def only(*installed):
    """find_spec where these modules and no others can be found."""

    def find_spec(name):
        if name not in installed:
            raise ModuleNotFoundError(name)
        return importlib.machinery.ModuleSpec(name, None)

    return find_spec


@pytest.mark.parametrize("option", ["slurm", "ray"])
def test_missing_launcher_is_one_sentence_that_names_the_extra(monkeypatch, option):
    monkeypatch.setattr(launchers, "find_spec", only())
    arguments = ["--multirun", "seed=0,1", f"hydra/launcher={option}", "name=x"]
    with pytest.raises(
        SystemExit, match=rf"^aunet: hydra/launcher={option} needs .*aunet\[{option}\]"
    ) as caught:
        launchers.require_launcher(arguments)
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(SystemExit):
        launchers.require_launcher(arguments)


def test_what_is_installed_or_not_asked_for_is_let_through(monkeypatch):
    monkeypatch.setattr(launchers, "find_spec", only("hydra_plugins.hydra_submitit_launcher"))
    launchers.require_launcher(["hydra/launcher=slurm"])
    launchers.require_launcher(["hydra/launcher=joblib", "name=ray", "sweep=slurm"])
    with pytest.raises(SystemExit):
        launchers.require_launcher(["hydra/launcher=ray"])


def test_worker_goes_to_the_sweeps_folder(monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    monkeypatch.setenv("AUNET_FOLDER", str(tmp_path))
    launchers.enter_folder()
    assert Path.cwd() == tmp_path


@pytest.mark.parametrize("option", ["slurm", "ray"])
def test_rows_have_one_process(option):
    launcher = OmegaConf.load(CONF / "hydra" / "launcher" / f"{option}.yaml")
    if option == "slurm":
        assert launcher.nodes == launcher.tasks_per_node == launcher.gpus_per_node == 1
        assert launcher.max_num_timeout > 0
        assert launcher.signal_delay_s < 60 * launcher.timeout_min
    else:
        assert launcher.ray.remote.num_gpus == 1
        assert launcher.ray.remote.max_retries > 0
