"""What a scheduler sees when it ends a training: SIGTERM to the whole process group."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]


def test_sigterm_leaves_within_seconds_with_a_code_of_its_own_and_goes_on(
    prepared: Path, tiny_settings, trained: dict[int, Path], tmp_path: Path
) -> None:
    settings = tiny_settings(num_workers=2, epochs=500)
    line = [
        *(sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)),
        *(
            "--config",
            json.dumps(settings.model_dump(mode="json")),
            "--output",
            str(tmp_path / "a"),
        ),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    running = subprocess.Popen(
        line, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    latest = tmp_path / "a" / "checkpoints" / "latest"
    deadline = time.monotonic() + 60
    while not latest.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGTERM)
    started = time.monotonic()
    _, told = running.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert running.returncode == os.EX_TEMPFAIL, told
    last = told.strip().splitlines()[-1]
    assert last.startswith("dsrl train: stopped by SIGTERM; repeat the call to go on from")
    state = torch.load(last.split()[-1], weights_only=True)
    assert latest.read_text().strip() == Path(last.split()[-1]).name
    assert 0 < state["epoch"] < 500
