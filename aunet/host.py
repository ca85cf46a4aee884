"""Settings of the machine that a training process makes once, before it allocates anything large."""

import ctypes
import logging
import os
import platform
import sys
import warnings
from typing import Any

import torch
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from aunet.processes import usable_cores

JOB_VARIABLES = (
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_RESTART_COUNT", "SLURMD_NODENAME",
    "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
"""What a cluster tells a job about itself, as far as it says where and as what the job ran."""

# glibc's mallopt parameters, from malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def configure_host(
    threads: int | None = None,
    keep_large_blocks: bool = True,
    tf32: bool = False,
    cudnn_benchmark: bool = True,
    processes: int = 1,
) -> None:
    """Sets threads, allocator and matrix precision of this process.

    Args:
        threads: CPU threads of torch; None: one for each core this process may use, or its part of them.
        keep_large_blocks: Let glibc keep freed blocks instead of giving them back to the kernel after each
            step: on a CPU that saved up to half of a training step's time, for 1 to 2 GB more memory.
            Nothing happens where the C library is not glibc.
        tf32: Allow TF32 on CUDA: faster, with 10 bits of mantissa in products.
        cudnn_benchmark: Let cuDNN time its algorithms for the fixed crop size.
        processes: Number of processes that share the machine's cores for one run.
    """
    if keep_large_blocks and sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
        libc.mallopt(_M_TOP_PAD, 256 * 2**20)
    torch.set_num_threads(threads or max(1, usable_cores() // processes))
    if processes > 1:  # Lightning would choose another number, unless one is set here
        os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark


def quiet_lightning() -> None:
    """Drops Lightning's advertisements and warnings that say nothing to a user of aunet."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "Checkpoint directory .* exists and is not empty",  # it is the run folder
        "The '.*_dataloader' does not have many workers",  # chosen by FrameDataModule
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own use of torch
        "The `srun` command is available",  # where Slurm is installed, and not asked for
        "The number of training batches .* is smaller than the logging interval",
        "It is recommended to use `self.log\\(.*sync_dist=True",  # what is logged without is the same in all
    ):
        warnings.filterwarnings("ignore", message=message)


def cluster_plugins() -> list[ClusterEnvironment]:
    """For the Trainer: keeps Lightning from queueing a job again where the launcher's submitit does."""
    if "SUBMITIT_EXECUTOR" in os.environ and SLURMEnvironment.detect():
        return [SLURMEnvironment(auto_requeue=False)]
    return []


def describe_host() -> dict[str, Any]:
    """What a run was made on: system, processor, cores, GPUs if any, and its job on a cluster.

    The job is a dict of those of ``JOB_VARIABLES`` that are set: its number leads to its log, and it shows
    that rows on one machine had a GPU each.
    """
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": usable_cores(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "job": {name: os.environ[name] for name in JOB_VARIABLES if name in os.environ},
    }
