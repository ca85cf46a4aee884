"""Cores of a process, and workers that end with their parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from aunet import processes
from aunet.processes import leave_signals, usable_cores

PARENT = """
import multiprocessing, os, sys, time
from aunet.processes import end_with_parent

def work():
    end_with_parent()
    print(os.getpid(), flush=True)
    time.sleep(120)

if __name__ == "__main__":
    multiprocessing.get_context(sys.argv[1]).Process(target=work).start()
    time.sleep(120)
"""


def test_cores_are_those_of_this_process(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3, 5}, raising=False)
    assert usable_cores() == 2
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert usable_cores() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_worker_ends_with_its_killed_parent(method, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), method], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    os.kill(worker, 0)  # it is there
    parent.kill()
    parent.wait()
    started = time.monotonic()
    assert parent.stdout.read() == ""  # to the end of the pipe, which the worker holds open
    assert time.monotonic() - started < 60
    parent.stdout.close()


class Pids(torch.utils.data.Dataset):
    """Items are the number of the process that makes them."""

    def __len__(self):
        return 1000

    def __getitem__(self, index):
        time.sleep(0.01)
        return os.getpid()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR2"), reason="no such signal here")
@pytest.mark.parametrize("sent", [signal.Signals.SIGUSR2, signal.Signals.SIGTERM])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_signal_to_all_processes_of_a_job_is_the_parents_alone(method, sent, tmp_path, monkeypatch):
    """As Slurm tells a job that its time is nearly up, and ends it."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")

    def handler(number, frame):
        (tmp_path / str(os.getpid())).touch()

    before = signal.signal(sent, handler)
    try:
        items = iter(
            torch.utils.data.DataLoader(
                Pids(), num_workers=2, worker_init_fn=leave_signals, multiprocessing_context=method
            )
        )
        workers = {int(next(items)) for _ in range(8)}
        assert len(workers) == 2
        for process in (*workers, os.getpid()):
            os.kill(process, sent)
        assert {int(next(items)) for _ in range(40)} == workers
    finally:
        signal.signal(sent, before)
    assert [path.name for path in tmp_path.iterdir()] == [str(os.getpid())]


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no forks here")
def test_worker_that_was_told_to_end_does_so_in_time(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setattr(processes, "_SECONDS_TO_END", 1)
    worker = multiprocessing.get_context("fork").Process(target=lambda: (leave_signals(), time.sleep(60)))
    worker.start()
    time.sleep(1)
    worker.terminate()
    worker.join(30)
    assert worker.exitcode == -signal.SIGALRM
