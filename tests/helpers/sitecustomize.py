"""Python reads this at its start where this folder is on PYTHONPATH.

It notes when a training begins and ends, and on which devices, in the file DSRL_RECORD.
"""

import atexit
import json
import os
import sys
import time
from pathlib import Path

RECORDED = ("CUDA_VISIBLE_DEVICES", "SLURMD_NODENAME", "WORLD_SIZE", "RANK", "OMP_NUM_THREADS")


def note(event: str) -> None:
    stage = sys.orig_argv[sys.orig_argv.index("--stage") + 1]
    entry = {"event": event, "time": time.time(), "pid": os.getpid(), "stage": stage}
    entry |= {name: os.environ.get(name) for name in RECORDED}
    with Path(os.environ["DSRL_RECORD"]).open("a") as file:
        file.write(json.dumps(entry) + "\n")


# `dsrl train` itself, not a program that starts it.
launchers = {"with-gpus", "torchrun", "srun"}
names = {Path(argument).name for argument in sys.orig_argv}
if "DSRL_RECORD" in os.environ and "train" in names and not launchers & names:
    note("begin")
    atexit.register(note, "end")
