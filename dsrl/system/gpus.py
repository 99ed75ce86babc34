"""The GPUs of this machine: which there are, and which of them a job has to itself.

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
    """What CUDA_VISIBLE_DEVICES calls the GPUs that this process may use.

    Without that variable they are those that nvidia-smi finds, numbered from 0 as CUDA does.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    if names is not None:
        # Like CUDA: whatever is no device, such as -1, hides itself and all after it.
        valid = re.compile(r"\d+|(GPU|MIG)-.+").fullmatch
        valid_names = takewhile(valid, (name.strip() for name in names.split(",")))
        return list(dict.fromkeys(valid_names))
    if shutil.which("nvidia-smi") is None:
        return []
    listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return [str(number) for number in range(len(re.findall(r"^GPU ", listing.stdout, re.M)))]


def claim_gpus(count: int) -> list[str]:
    """Wait until `count` GPUs are free, and keep others from claiming them.

    A claim is a lock on a file in the temporary folder, so that it also holds between workflows,
    though not between containers. The program that this process becomes inherits it, and the kernel
    ends it with that one, however it dies.

    Raises:
        ValueError: so many are not there.
    """
    gpus = visible_gpus()
    if len(gpus) < count:
        raise ValueError(f"{count} GPUs are asked for, and {len(gpus)} visible here")
    while True:
        claims: dict[str, int] = {}
        for gpu in gpus:
            if len(claims) < count and (claim := _lock(gpu)) is not None:
                claims[gpu] = claim
        if len(claims) == count:
            return list(claims)
        # Who holds some while waiting for more could wait for ever, as could two in step.
        for claim in claims.values():
            os.close(claim)
        time.sleep(random.uniform(0.2, 1))


def _lock(gpu: str) -> int | None:
    """The open lock file of a GPU, or None where another has locked it."""
    # In a Slurm job numbers may count that job's own GPUs.
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
