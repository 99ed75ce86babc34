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


def terminate(line: list[str], output: Path) -> tuple[int, str]:
    """Start a training, send SIGTERM to its process group when it has a checkpoint; the exit code
    and what it told. It has ten seconds to leave."""
    running = subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    latest = output / "checkpoints" / "latest"
    while not latest.exists() and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGTERM)
    try:
        _, told = running.communicate(timeout=10)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    return running.returncode, told


def test_sigterm_leaves_within_seconds_with_a_code_of_its_own_and_goes_on(
    prepared: Path, tiny_settings, trained: dict[int, Path], tmp_path: Path
) -> None:
    settings = json.dumps(tiny_settings(num_workers=2, epochs=500).model_dump(mode="json"))
    output = tmp_path / "a"
    line = [sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)]
    code, told = terminate([*line, "--config", settings, "--output", str(output)], output)
    assert code == os.EX_TEMPFAIL, told
    last = told.strip().splitlines()[-1]
    assert last.startswith("dsrl train: stopped by SIGTERM; repeat the call to go on from")
    state = torch.load(last.split()[-1], weights_only=True)
    assert (output / "checkpoints/latest").read_text().strip() == Path(last.split()[-1]).name
    assert 0 < state["epoch"] < 500


def test_sigterm_ends_a_script_that_does_not_catch_it(
    prepared: Path, tiny_settings, tmp_path: Path
) -> None:
    """A traceback keeps the loader alive; its processes must not keep the script from leaving."""
    settings = json.dumps(tiny_settings(num_workers=2, epochs=500).model_dump(mode="json"))
    script = (
        "import sys; from pathlib import Path; from dsrl.config import read_settings;"
        "from dsrl.training.loop import train_stage;"
        "train_stage(read_settings(sys.argv[1]), 1, Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    line = [sys.executable, "-c", script, settings, str(prepared), str(tmp_path)]
    code, told = terminate(line, tmp_path)
    assert code == 1
    assert "Stopped: stopped by SIGTERM" in told
