"""A training that is killed again and again, wherever it is: nothing on disk is ever half written,
and it ends with the bits of an undisturbed one."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from training import assert_same_training

from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint
from dsrl.checkpoints.weights import load_weights

ROOT = Path(__file__).parents[2]
KILLS = 20


def start(line: list[str]) -> subprocess.Popen:
    """A training of its own process group."""
    return subprocess.Popen(
        line,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )


def wait_for(process: subprocess.Popen, pattern: str, folder: Path, seen: set[Path]) -> bool:
    """Wait until there is a file of that pattern which was not there before; False if the process
    ended before."""
    while process.poll() is None:
        if set(folder.rglob(pattern)) - seen:
            return True
        time.sleep(0.002)
    return False


def kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def check_everything_loads(folder: Path) -> int:
    """Load every file that a training leaves; the number of the finished epochs."""
    for path in folder.rglob("*.weights"):
        load_weights(path)
    for path in folder.rglob("*.checkpoint"):
        load_checkpoint(path)
    for path in folder.rglob("*.csv"):
        rows = pd.read_csv(path)
        assert rows["epoch"].tolist() == list(range(1, len(rows) + 1))
        assert rows["total"].notna().all()
    latest = CheckpointFolder(folder / "checkpoints").latest
    return 0 if latest is None else load_checkpoint(latest).progress["epoch"]


@pytest.mark.slow
def test_a_training_killed_twenty_times_ends_bit_identical(
    prepared: Path, tiny_settings, tmp_path: Path
) -> None:
    settings = tiny_settings(epochs=150, num_workers=1, checkpoint_history=2, val_interval=2)
    line = [sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)]
    line += ["--config", json.dumps(settings.model_dump(mode="json")), "--output"]
    undisturbed, folder = tmp_path / "undisturbed", tmp_path / "killed"
    assert start([*line, str(undisturbed)]).wait() == 0

    moments, leftovers, epochs = random.Random(0), 0, []
    for number in range(KILLS):
        seen = set(folder.rglob("*"))
        process = start([*line, str(folder)])
        if number % 4 == 0:  # at any moment, the start of Python included
            time.sleep(moments.uniform(0, 4))
        elif number % 4 == 1:  # while it trains
            wait_for(process, "events.out.tfevents.*", folder, seen)
            time.sleep(moments.uniform(0, 0.5))
        else:  # while it writes
            pattern = (".epoch*.tmp", ".history.csv.*.tmp")[number % 4 - 2]
            wait_for(process, pattern, folder, seen)
            time.sleep(moments.uniform(0, 0.01))
        kill(process)
        leftovers += len(set(folder.rglob(".*.tmp")) - seen)
        epochs.append(check_everything_loads(folder))
        assert not (folder / "final.weights").exists(), "it ended before the last kill"
    assert epochs == sorted(epochs) and 0 < epochs[-1] < 150
    assert leftovers, "no kill came while a file was written"

    assert start([*line, str(folder)]).wait() == 0
    assert not list(folder.rglob(".*.tmp")), "what the killed ones left is still there"
    check_everything_loads(folder)
    assert_same_training(folder, undisturbed)
