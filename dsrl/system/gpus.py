"""The GPUs of this machine: which are visible, and which a job has to itself.

Read at every start of Snakemake, so it imports no torch.
"""

import fcntl
import os
import random
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

CLAIM = "DSRL_GPU_CLAIM"  # the lock files of a claim, for the processes that it is made for


def visible_gpus() -> list[str]:
    """Names of the GPUs that this process may use, as in CUDA_VISIBLE_DEVICES.

    Without that variable they are those that nvidia-smi lists, numbered from 0 as CUDA does.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        # Like CUDA: what is not a device, such as -1, hides itself and all that follow.
        valid = re.compile(r"\d+|(GPU|MIG)-.+").fullmatch
        valid_names = takewhile(valid, (name.strip() for name in names.split(",")))
        return list(dict.fromkeys(valid_names))
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(number) for number in range(len(re.findall(r"^GPU ", listing.stdout, re.M)))]


def claim_gpus(count: int) -> list[str]:
    """Wait until `count` GPUs are free, and keep others from claiming them.

    A claim is a lock on a file in the temporary folder, so it works between workflows too, though
    not between containers. The program that this process executes inherits the lock, and shares it
    with those that call `keep_claim`. The kernel releases it when the last of them ends, however it
    ends.

    Raises:
        ValueError: fewer are visible.
    """
    gpus = visible_gpus()
    if len(gpus) < count:
        raise ValueError(f"requested {count} GPUs, {len(gpus)} visible")
    while True:
        claims: dict[str, int] = {}
        for gpu in gpus:
            if len(claims) < count and (claim := _lock(gpu)) is not None:
                claims[gpu] = claim
        if len(claims) == count and _share(claims.values()):
            os.environ[CLAIM] = os.pathsep.join(str(_lock_file(gpu)) for gpu in claims)
            return list(claims)
        # Two that each keep some while waiting for more would wait for ever, as could two in step.
        for claim in claims.values():
            os.close(claim)
        time.sleep(random.uniform(0.2, 1))


def keep_claim() -> None:
    """Keep the GPUs that were claimed for the program that started this process, if any, until this
    process ends as well.

    torchrun passes no open file on to the processes that it starts, and they outlive it if it is
    killed.
    """
    for path in filter(None, os.environ.get(CLAIM, "").split(os.pathsep)):
        with suppress(OSError):  # the claim has ended, or is another machine's
            fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)


def _lock_file(gpu: str) -> Path:
    # In a Slurm job the numbers may count that job's own GPUs.
    scope = os.environ.get("SLURM_JOB_ID", "machine")
    return Path(tempfile.gettempdir(), f"dsrl-gpu-{scope}-{gpu}.lock")


def _lock(gpu: str) -> int | None:
    """The open lock file of a GPU, locked for this process alone; None if another has a lock."""
    path = _lock_file(gpu)
    try:
        file = os.open(path, os.O_RDONLY)  # it may be another user's
    except FileNotFoundError:
        file = os.open(path, os.O_RDONLY | os.O_CREAT)
        os.fchmod(file, 0o644)
    os.set_inheritable(file, True)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _share(files: Iterable[int]) -> bool:
    """Let other processes share these locks. False if one was lost, as the kernel may release it
    for a moment."""
    try:
        for file in files:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
