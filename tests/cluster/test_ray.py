"""Sweeps on a real Ray of one machine: ``make test-ray``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import rows
from rows import attempts, worker

RAY = str(Path(sys.executable).parent / "ray")


@pytest.fixture(scope="module")
def cluster():
    """Environment in which the launcher finds the cluster, which says that it has two GPUs."""
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="the extra ray is not installed")
    if sys.platform != "linux":
        pytest.skip("127.0.0.2, the only address of its own that Ray takes for one, is Linux's")
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short, as it holds sockets
    elsewhere = folder / "elsewhere"  # its processes do not begin in the sweep's folder
    elsewhere.mkdir()
    # Ray looks for no other cluster and reports to nobody.
    env = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_TMPDIR": str(folder)}
    env |= {"RAY_worker_niceness": "0"}  # by itself 15, which on a busy machine is next to nothing
    head = subprocess.Popen(
        [
            *(RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.2", "--port=0"),
            *("--num-cpus=2", "--num-gpus=2", "--include-dashboard=false", "--disable-usage-stats"),
            *("--object-store-memory=100000000", f"--temp-dir={folder}"),
        ],
        cwd=elsewhere, env=env, text=True, stdout=(folder / "head.out").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        address = folder / "ray_current_cluster"
        rows.eventually(address.exists, 60)
        yield env | {"RAY_ADDRESS": address.read_text().strip()}
    finally:
        head.terminate()  # takes its own processes with it
        head.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def test_killed_row_goes_on_within_the_sweep_and_finished_rows_are_left(cluster, affwild2, tmp_path):
    command = (
        "hydra/launcher=ray", "hydra.launcher.ray.remote.num_cpus=1", "seed=0,1", "epochs=20",
        f"data.root={affwild2}",
    )  # fmt: skip
    other, killed = (tmp_path / "runs" / "table1" / "ours" / f"seed{seed}" for seed in (0, 1))
    with rows.sweep(*command, cwd=tmp_path, env=cluster) as sweep:
        sweep.until((killed / "last.ckpt").exists)
        os.kill(worker(killed), signal.SIGKILL)
        code, output = sweep.end()
    assert code == 0, output
    (first,) = attempts(other)
    second, third = attempts(killed)
    devices = [attempt["job"]["CUDA_VISIBLE_DEVICES"] for attempt in (first, second, third)]
    assert sorted(devices[:2]) == ["0", "1"]
    assert devices[2] in ("0", "1")
    assert "goes on from its last checkpoint" in output
    assert {json.loads((row / "metrics.json").read_text())["epochs"] for row in (other, killed)} == {20}

    finished = [(row / "metrics.json").stat().st_mtime_ns for row in (other, killed)]
    with rows.sweep(*command, cwd=tmp_path, env=cluster) as sweep:
        code, output = sweep.end()
    assert code == 0, output
    assert [(row / "metrics.json").stat().st_mtime_ns for row in (other, killed)] == finished
    assert len(attempts(killed)) == 2
