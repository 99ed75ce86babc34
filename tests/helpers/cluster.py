"""A private Slurm cluster on this machine: two nodes, each with two GPUs that are none.

It needs root and the programs of Slurm and munge (Debian: slurm-wlm, munge), but no systemd and no
configuration; it leaves nothing behind. By hand: `python tests/helpers/cluster.py COMMAND...`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
# Programs that Slurm starts look for it here, whatever SLURM_CONF says.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")
NODES = ("n1", "n2")

CONF = """
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=1
ReturnToService=2
# Snakemake asks squeue for jobs that have ended.
MinJobAge=600
GresTypes=gpu
# Nodes may claim more than there is.
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=16 RealMemory=100000 Gres=gpu:2
NodeName=n1 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[1]}
NodeName=n2 NodeHostName={host} NodeAddr=127.0.0.1 Port={ports[2]}
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE
"""


def what_is_missing() -> str | None:
    """Why there can be no cluster here, or None."""
    if os.geteuid() != 0:
        return "a private Slurm cluster needs root"
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"not installed: {', '.join(absent)} (Debian: slurm-wlm, munge)"
    if SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} belongs to another cluster"
    return None


@contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """Run a cluster; gives the environment of its users."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slurm-")))
        environment = _configure(folder)
        SYSTEM_CONF.parent.mkdir(exist_ok=True)
        SYSTEM_CONF.unlink(missing_ok=True)  # a dangling link of one that was killed
        SYSTEM_CONF.symlink_to(folder / "slurm.conf")
        stack.callback(SYSTEM_CONF.unlink)
        munge = ["--foreground", "--force", f"--key-file={folder}/munge.key"]
        munge += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
        daemons = [["munged", *munge, f"--socket={folder}/munge.socket"], ["slurmctld", "-D", "-i"]]
        daemons += [["slurmd", "-D", "-N", node] for node in NODES]
        for number, daemon in enumerate(daemons):
            stack.enter_context(_running(daemon, environment, folder / f"{number}.log"))
        _wait_until_idle(environment, folder)
        # Their last processes end with them, before the folder does.
        stack.callback(
            subprocess.run, ["scancel", "--user=root"], env=environment, check=False, timeout=30
        )
        yield environment


def _configure(folder: Path) -> dict[str, str]:
    """Write the configuration; returns the environment that names it."""
    folder.chmod(0o755)
    for number in range(2):
        os.mknod(folder / f"gpu{number}", 0o20666, os.makedev(1, 3))  # as /dev/null
    (folder / "state").mkdir()
    (folder / "gres.conf").write_text(f"Name=gpu File={folder}/gpu[0-1]\n")
    (folder / "munge.key").write_bytes(os.urandom(128))
    (folder / "munge.key").chmod(0o400)
    conf = CONF.format(host=socket.gethostname(), ports=_free_ports(3), folder=folder)
    (folder / "slurm.conf").write_text(conf)
    return {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def _running(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a daemon, and end it."""
    with log.open("wb") as file:
        daemon = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
    try:
        yield
    finally:
        daemon.terminate()
        try:
            daemon.wait(timeout=20)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


def _wait_until_idle(environment: dict[str, str], folder: Path) -> None:
    states: list[str] = []
    deadline = time.monotonic() + 60
    while states != ["idle", "idle"]:
        if time.monotonic() > deadline:
            logs = "".join(path.read_text()[-2000:] for path in sorted(folder.glob("?.log")))
            raise TimeoutError(f"no cluster after a minute, its nodes are {states}:\n{logs}")
        time.sleep(0.2)
        query = ["timeout", "-k", "1", "10", "sinfo", "-h", "-N", "-o", "%t"]
        done = subprocess.run(query, env=environment, capture_output=True, text=True, check=False)
        states = done.stdout.split()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if missing := what_is_missing():
        sys.exit(missing)
    with cluster() as environment:
        sys.exit(subprocess.run(sys.argv[1:], env=environment, check=False).returncode)
