"""The local launcher by itself: GPUs and threads shared out, rows that raise, that end, that are killed."""

import os
import signal
from pathlib import Path

import hydra
import pytest
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.utils import JobStatus
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, RunMode

from aunet.config import CONF
from aunet.runs import read_json
from hydra_plugins.aunet_local.launcher import LocalLauncher


def task(cfg):
    """Stands in for a row: leaves what it was given, and does what its name says."""
    left = Path(cfg.runs) / f"seed{cfg.seed}"
    with left.open("a") as file:
        file.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {cfg.host.threads} {cfg.progress}\n")
    if cfg.name == "raises" and cfg.seed == 1:
        raise CompactHydraException("this row is bad")
    if cfg.name == "ends" and cfg.seed == 1:
        os._exit(3)
    killed_before = len(left.read_text().splitlines()) > 1
    if cfg.name == "killed" and cfg.seed == 1 and (cfg.lr == 0 or not killed_before):
        os.kill(os.getpid(), signal.SIGKILL)
    return float(cfg.seed)


@pytest.fixture
def launch(tmp_path):
    """Launches rows of seeds 0, 1, 2 with a launcher; gives what they returned and what they left."""
    Plugins.instance()  # imports all plugins anew, now and not after a test has changed one

    def run(launcher, *overrides):
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            app = GlobalHydra.instance().hydra
            config = app.compose_config(
                "config", [f"runs={tmp_path}", *overrides], RunMode.MULTIRUN, with_log_configuration=False
            )
            context = HydraContext(config_loader=app.config_loader, callbacks=Callbacks())
            launcher.setup(hydra_context=context, task_function=task, config=config)
            jobs = [[f"runs={tmp_path}", *overrides, f"seed={seed}"] for seed in range(3)]
            returned = launcher.launch(jobs, initial_job_idx=0)
        left = {seed: (tmp_path / f"seed{seed}").read_text().splitlines() for seed in range(3)}
        return returned, left

    return run


def test_rows_share_cores_and_have_a_gpu_each(launch, monkeypatch):
    monkeypatch.setitem(LocalLauncher.launch.__globals__, "usable_cores", lambda: 8)
    launcher = LocalLauncher(processes=2)
    launcher.gpus = ["4", "6"]
    returned, left = launch(launcher)
    assert [result.return_value for result in returned] == [0.0, 1.0, 2.0]
    assert {line for lines in left.values() for line in lines} == {"4 4 False", "6 4 False"}
    assert [len(lines) for lines in left.values()] == [1, 1, 1]
    assert left[0] != left[1]  # the first two run at once


def test_one_row_at_a_time_keeps_what_it_was_given(launch):
    returned, left = launch(LocalLauncher(processes=1), "host.threads=3")
    assert [result.status for result in returned] == [JobStatus.COMPLETED] * 3
    assert {line for lines in left.values() for line in lines} == {"None 3 True"}


@pytest.mark.parametrize(
    ("name", "said"),
    [("raises", "this row is bad"), ("ends", "ends seed 1: its process was ended with status 3")],
)
def test_failing_row_fails_alone(name, said, launch, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    returned, left = launch(LocalLauncher(processes=2), f"name={name}")
    assert [r.status for r in returned] == [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.COMPLETED]
    with pytest.raises(CompactHydraException, match=said):
        _ = returned[1].return_value
    assert len(left[1]) == 1  # what has ended by itself is not started again


def test_killed_row_is_started_again(launch):
    returned, left = launch(LocalLauncher(processes=2, restarts=1), "name=killed")
    assert [result.return_value for result in returned] == [0.0, 1.0, 2.0]
    assert [len(lines) for lines in left.values()] == [1, 2, 1]


def test_row_that_is_always_killed_fails_and_leaves_the_reason(launch, tmp_path):
    returned, left = launch(LocalLauncher(processes=2, restarts=1), "name=killed", "lr=0")
    assert returned[1].status is JobStatus.FAILED
    assert [len(lines) for lines in left.values()] == [1, 2, 1]
    failure = read_json(tmp_path / "adhoc" / "killed" / "seed1.failed.json")
    assert failure["reason"].startswith("its process was killed by signal 9")


def test_no_process_is_refused():
    with pytest.raises(CompactHydraException, match=r"hydra\.launcher\.processes=0 must be at least 1"):
        LocalLauncher(processes=0)
