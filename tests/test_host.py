"""Settings of the machine; they are put back after each test."""

import json
import platform
import sys

import pytest
import pytorch_lightning as pl
import torch

from aunet import host


@pytest.fixture(autouse=True)
def restored():
    threads = torch.get_num_threads()
    matmul, cudnn = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    benchmark = torch.backends.cudnn.benchmark
    yield
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, cudnn
    torch.backends.cudnn.benchmark = benchmark


@pytest.fixture
def mallopt(monkeypatch):
    """What would have been set in the C library."""
    calls = []

    class Library:
        def mallopt(self, parameter, value):
            calls.append((parameter, value))

    monkeypatch.setattr(host.ctypes, "CDLL", lambda name: Library())
    return calls


@pytest.mark.parametrize("on", [True, False])
def test_precision_and_cudnn(on, mallopt):
    host.configure_host(threads=1, tf32=on, cudnn_benchmark=on)
    assert torch.backends.cuda.matmul.allow_tf32 is on
    assert torch.backends.cudnn.allow_tf32 is on
    assert torch.backends.cudnn.benchmark is on


def test_full_float32_is_the_default(mallopt):
    torch.backends.cudnn.allow_tf32 = True  # torch's own default
    host.configure_host(threads=1)
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_threads(monkeypatch, mallopt):
    host.configure_host(threads=2)
    assert torch.get_num_threads() == 2
    monkeypatch.setattr(host, "usable_cores", lambda: 3)
    host.configure_host()
    assert torch.get_num_threads() == 3


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_allocator_is_set_where_it_is_glibc_and_wanted(monkeypatch, mallopt):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    host.configure_host(threads=1, keep_large_blocks=False)
    assert mallopt == []
    host.configure_host(threads=1)
    # malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
    assert dict(mallopt) == {
        -4: 0,
        -1: -1,
        -2: 256 * 2**20,
    }
    mallopt.clear()
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    host.configure_host(threads=1)
    assert mallopt == []


def test_description_fits_a_runs_record():
    found = host.describe_host()
    assert found.keys() == {"system", "processor", "cores", "threads", "gpus", "job"}
    assert json.loads(json.dumps(found)) == found
    assert found["system"]
    assert found["processor"]
    assert found["cores"] >= 1
    assert found["threads"] == torch.get_num_threads()
    assert len(found["gpus"]) == torch.cuda.device_count()


def test_description_names_the_clusters_job(monkeypatch):
    for name in host.JOB_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    assert host.describe_host()["job"] == {}
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_JOB_ACCOUNT", "nobody's business")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # which says that there is none
    assert host.describe_host()["job"] == {"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": ""}


def test_lightning_does_not_queue_again_what_the_launcher_does(monkeypatch):
    for name in ("SUBMITIT_EXECUTOR", "SLURM_NTASKS", "SLURM_JOB_NAME", "SLURM_NTASKS_PER_NODE"):
        monkeypatch.delenv(name, raising=False)
    assert host.cluster_plugins() == []

    def environment(plugins):
        trainer = pl.Trainer(devices=1, accelerator="cpu", logger=False, plugins=plugins)
        return trainer._accelerator_connector.cluster_environment

    # A job of one task, as srun starts it.
    job = {"SLURM_NTASKS": "1", "SLURM_JOB_NAME": "aunet", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    for name, value in job.items():
        monkeypatch.setenv(name, value)
    assert host.cluster_plugins() == []  # a job of the user's own, which Lightning may queue again
    assert environment([]).auto_requeue
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    assert not environment(host.cluster_plugins()).auto_requeue
