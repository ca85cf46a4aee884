"""A Slurm cluster of one machine, with accounting and two stand-in GPUs, on loopback and without systemd."""

import os
import secrets
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rows import eventually

PACKAGES = ("slurm-wlm", "munge", "slurmdbd", "mariadb-server")
PROGRAMS = ("slurmctld", "slurmd", "munged", "slurmdbd", "mariadbd", "mariadb-install-db")

SLURM_CONF = """\
ClusterName=aunet
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmctldParameters=enable_configless
SlurmUser=root
SlurmdPort={daemon}
AuthType=auth/munge
# A requeued job waits for as long as its first credential is valid, 120 s if not said otherwise.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_min_interval=0,sched_interval=2,batch_sched_delay=0,bf_interval=2
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
AccountingStoragePass={folder}/munge.socket
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=16000 Gres=gpu:2 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
SLURMDBD_CONF = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={accounting}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=accounting
"""


def missing() -> str | None:
    """Why no cluster can be started here; None: it can. Installs Debian's packages where it may."""
    if sys.platform != "linux":
        return "Slurm needs Linux"
    if os.geteuid():
        return "starting Slurm's daemons needs root"
    if all(shutil.which(program) for program in PROGRAMS):
        return None
    if not shutil.which("apt-get"):
        return f"{', '.join(PACKAGES)} are not installed, and there is no apt-get to install them"
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-q", *command], capture_output=True, text=True, check=False,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
        )  # fmt: skip
        if done.returncode:
            return f"apt-get {command[0]} failed: {done.stderr.strip()[-300:]}"
    return None


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Starts the cluster and gives the environment in which sbatch and the others find it; ends it after.

    Args:
        folder: Takes all of its files; a short path, as it holds sockets.
    """
    ports = dict(zip(("controller", "daemon", "accounting", "database"), free_ports(4), strict=True))
    words = ports | {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "password": secrets.token_hex(8),
    }
    env = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    # A job of another cluster may be what runs this.
    env = {key: value for key, value in env.items() if key == "SLURM_CONF" or not key.startswith("SLURM_")}
    for name in ("state", "spool"):
        (folder / name).mkdir()
    for number in range(2):  # as good as a GPU for Slurm, which gives out device files
        os.mknod(folder / f"gpu{number}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "slurm.conf").write_text(SLURM_CONF.format(**words))
    (folder / "gres.conf").write_text(f"NodeName={words['host']} Name=gpu File={folder}/gpu[0-1]\n")
    private(folder / "slurmdbd.conf", SLURMDBD_CONF.format(**words).encode())
    private(folder / "munge.key", secrets.token_bytes(1024))

    with ExitStack() as stack:

        def start(*command: str | Path) -> None:
            stack.enter_context(daemon(folder, env, *command))

        start(
            "munged", "--foreground", "--force", f"--key-file={folder}/munge.key",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed",
        )  # fmt: skip
        database = ["--no-defaults", f"--datadir={folder}/database", "--user=root"]
        run(env, "mariadb-install-db", *database, "--skip-test-db")
        start(
            "mariadbd", *database, "--bind-address=127.0.0.1", f"--port={ports['database']}",
            f"--socket={folder}/database.socket", f"--pid-file={folder}/mariadbd.pid",
        )  # fmt: skip
        user = f"'slurm'@'127.0.0.1' identified by '{words['password']}'"
        grant = f"create user {user}; grant all on accounting.* to 'slurm'@'127.0.0.1'"
        eventually(
            lambda: (
                run(env, "mariadb", "--no-defaults", f"--socket={folder}/database.socket", "-e", grant) == ""
            )
        )
        start("slurmdbd", "-D")
        eventually(lambda: run(env, "sacctmgr", "--immediate", "add", "cluster", "aunet"))
        start("slurmctld", "-D")
        start("slurmd", "-D")
        eventually(lambda: run(env, "sinfo", "--noheader", "--format=%T").strip() == "idle")
        yield env
        run(env, "scancel", "--user=root", "--signal=KILL", "--full")
        run(env, "scancel", "--user=root")


@contextmanager
def daemon(folder: Path, env: dict[str, str], *command: str | Path) -> Iterator[None]:
    """Runs a program as long as the block lasts; its output goes to a file."""
    name = str(command[0])
    with (folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen([*command], stdout=output, stderr=subprocess.STDOUT, env=env)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(env: dict[str, str], *command: str) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def private(path: Path, content: bytes) -> None:
    """Writes a file that only its owner can read, as the daemons insist."""
    path.touch(mode=0o600)
    path.write_bytes(content)
