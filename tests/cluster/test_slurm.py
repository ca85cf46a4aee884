"""Sweeps on a real Slurm of one machine: ``make test-slurm``."""

import json
import math
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
import rows
import slurm_server
from rows import attempts, eventually, worker

SLURM = (
    "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    """Environment of the cluster's commands."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="the extra slurm is not installed")
    if reason := slurm_server.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    try:
        with slurm_server.slurm(folder) as env:
            yield env
    finally:
        shutil.rmtree(folder)


def state(cluster, job):
    """State of a job in the accounting, such as COMPLETED."""
    name = f"{job['SLURM_ARRAY_JOB_ID']}_{job['SLURM_ARRAY_TASK_ID']}"
    command = ("sacct", "--noheader", "--parsable2", "--allocations", "--format=State", f"--jobs={name}")
    return slurm_server.run(cluster, *command).strip()


def shorten(cluster, job):
    """Brings a job's time limit, in whole minutes, as near as Slurm's rounds of half a minute allow."""
    spent = slurm_server.run(cluster, "squeue", "--noheader", "--format=%M", f"--jobs={job}").strip()
    minutes, seconds = (int(part) for part in spent.split(":"))
    limit = minutes + math.ceil((seconds + 45) / 60)
    slurm_server.run(cluster, "scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")


def test_killed_row_is_finished_by_the_same_command_and_the_other_row_is_left(cluster, affwild2, tmp_path):
    command = (*SLURM, "seed=0,1", "epochs=20", f"data.root={affwild2}")
    other, killed = (tmp_path / "runs" / "table1" / "ours" / f"seed{seed}" for seed in (0, 1))
    with rows.sweep(*command, cwd=tmp_path, env=cluster) as sweep:
        sweep.until((killed / "last.ckpt").exists)
        os.kill(worker(killed), signal.SIGKILL)
        code, output = sweep.end()
    assert code != 0
    assert "has not produced any output" in output, output
    eventually((other / "metrics.json").exists, 60)  # the command ends as soon as it knows of a failure
    assert not (killed / "metrics.json").exists()

    (first,), (second,) = ([attempt["job"] for attempt in attempts(row)] for row in (other, killed))
    assert {first["CUDA_VISIBLE_DEVICES"], second["CUDA_VISIBLE_DEVICES"]} == {"0", "1"}
    eventually(lambda: state(cluster, second) == "FAILED")
    eventually(lambda: state(cluster, first) == "COMPLETED")

    finished = (other / "metrics.json").stat().st_mtime_ns
    with rows.sweep(*command, cwd=tmp_path, env=cluster) as sweep:
        code, output = sweep.end()
    assert code == 0, output
    assert (other / "metrics.json").stat().st_mtime_ns == finished
    assert len(attempts(other)) == 1
    assert len(attempts(killed)) == 2
    assert json.loads((killed / "metrics.json").read_text())["epochs"] == 20
    # Slurm's files are beside the sweep, not in the rows' folders.
    assert list((tmp_path / "runs" / ".submitit").glob("*/*_log.out"))


def test_row_that_is_longer_than_its_time_limit_is_queued_again_and_goes_on(cluster, affwild2, tmp_path):
    row = ("epochs=25", f"data.root={affwild2}")
    workers = "data.workers=2"  # to which Slurm sends its signal, too
    limits = ("timeout_min=9", "signal_delay_s=5", "cpus_per_task=2")
    command = (*SLURM, *(f"hydra.launcher.{limit}" for limit in limits), *row)
    whole, cut = (tmp_path / "runs" / sweep / "ours" / "seed0" for sweep in ("whole", "cut"))
    with (
        rows.sweep(*command, workers, "sweep=cut", cwd=tmp_path, env=cluster) as sweep,
        rows.sweep(*row, "sweep=whole", cwd=tmp_path, env=os.environ) as undisturbed,
    ):
        sweep.until((cut / "last.ckpt").exists)
        process = worker(cut)
        os.kill(process, signal.SIGSTOP)  # as if the file system hung; Slurm lets it go on when it signals
        shorten(cluster, attempts(cut)[0]["job"]["SLURM_JOB_ID"])
        code, output = sweep.end()
        assert code == 0, output
        assert undisturbed.end()[0] == 0
    first, second = attempts(cut)
    assert first["job"]["SLURM_JOB_ID"] == second["job"]["SLURM_JOB_ID"]
    assert "SLURM_RESTART_COUNT" not in first["job"]
    assert second["job"]["SLURM_RESTART_COUNT"] == "1"
    assert first["cores"] == second["cores"] == 2  # all that were asked for
    (log,) = (tmp_path / "runs" / ".submitit").glob("*/*_log.out")
    assert "goes on from its last checkpoint" in log.read_text()
    rows.assert_same_run(whole, cut)
