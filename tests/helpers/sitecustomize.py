"""Python reads this at its start where this folder is on PYTHONPATH.

It notes when a training begins and ends, and on which devices, in the file DSRL_RECORD.
"""

import atexit
import json
import os
import sys
import time

RECORDED = ("CUDA_VISIBLE_DEVICES", "SLURMD_NODENAME", "WORLD_SIZE", "RANK")


def note(event: str) -> None:
    entry = {name: os.environ.get(name) for name in RECORDED}
    entry |= {"event": event, "time": time.time(), "pid": os.getpid()}
    with open(os.environ["DSRL_RECORD"], "a") as file:
        file.write(json.dumps(entry | {"stage": sys.orig_argv[sys.orig_argv.index("--stage") + 1]}) + "\n")


# `dsrl train` itself, not a program that starts it.
launchers = {"with-gpus", "torchrun", "srun"}
names = [os.path.basename(argument) for argument in sys.orig_argv]
if "DSRL_RECORD" in os.environ and "train" in names and not launchers & set(names):
    note("begin")
    atexit.register(note, "end")
