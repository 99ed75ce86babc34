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
from itertools import takewhile
from pathlib import Path


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
    not between containers. The program that this process executes inherits the lock, and the kernel
    releases it when that program ends, however it ends.

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
        if len(claims) == count:
            return list(claims)
        # Two that each keep some while waiting for more would wait for ever, as could two in step.
        for claim in claims.values():
            os.close(claim)
        time.sleep(random.uniform(0.2, 1))


def _lock(gpu: str) -> int | None:
    """The open lock file of a GPU, or None if another process has locked it."""
    # In a Slurm job the numbers may count that job's own GPUs.
    scope = os.environ.get("SLURM_JOB_ID", "machine")
    path = Path(tempfile.gettempdir(), f"dsrl-gpu-{scope}-{gpu}.lock")
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
