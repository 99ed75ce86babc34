"""What a scheduler sees when it ends a training: SIGTERM to the whole process group."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch

from dsrl.checkpoints.checkpoint import CheckpointFolder, load_checkpoint

ROOT = Path(__file__).parents[2]


def terminate(
    line: list[str],
    output: Path,
    extra: dict[str, str] | None = None,
    number: int = signal.SIGTERM,
) -> tuple[int, str]:
    """Start a training, send a signal to its process group when it has a checkpoint; the exit code
    and what it told. It has ten seconds to leave."""
    running = subprocess.Popen(
        line,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})},
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    folder = CheckpointFolder(output / "checkpoints")
    while not folder.latest and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(running.pid, number)
    try:
        _, told = running.communicate(timeout=10)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    return running.returncode, told


@pytest.mark.parametrize(
    ("number", "code", "name"),
    [(signal.SIGTERM, os.EX_TEMPFAIL, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")],
    ids=["sigterm", "ctrl-c"],
)
def test_a_signal_leaves_within_seconds_with_a_code_of_its_own_and_goes_on(
    prepared: Path, tiny_settings, trained: dict[int, Path], tmp_path: Path, number, code, name
) -> None:
    settings = json.dumps(tiny_settings(num_workers=2, epochs=500).model_dump(mode="json"))
    output = tmp_path / "a"
    line = [sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)]
    line += ["--config", settings, "--output", str(output)]
    found, told = terminate(line, output, number=number)
    assert found == code, told
    last = told.strip().splitlines()[-1]
    assert last.startswith(f"dsrl train: stopped by {name}; repeat the call to resume from")
    latest = CheckpointFolder(output / "checkpoints").latest
    assert latest == Path(last.split()[-1])
    state = torch.load(latest, weights_only=True)
    assert 0 < state["progress"]["epoch"] < 500


@pytest.mark.slow
def test_sigterm_to_torchrun_leaves_a_checkpoint_and_the_code_of_torchrun(
    prepared: Path, tiny_settings, tmp_path: Path
) -> None:
    settings = json.dumps(tiny_settings(epochs=500).model_dump(mode="json"))
    line = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    line += ["-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)]
    code, told = terminate([*line, "--config", settings, "--output", str(tmp_path)], tmp_path)
    assert code == 1
    assert told.count("stopped by SIGTERM; repeat the call to resume from") == 1
    latest = CheckpointFolder(tmp_path / "checkpoints").latest
    assert latest is not None
    progress = load_checkpoint(latest).progress
    assert progress["sums"][1, 0] == 2 * progress["step"], "losses of both processes"
    # One process alone goes on from there.
    epochs = f"--epochs={progress['epoch'] + 1}"
    line = [sys.executable, "-m", "dsrl", "resume-train", "--checkpoint", str(latest), epochs]
    subprocess.run(line, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    row = pd.read_csv(tmp_path / "history.csv").iloc[-1]
    assert row.epoch == progress["epoch"] + 1 and 0.5 < row.total < 10


@pytest.mark.slow
def test_sigterm_to_one_of_several_processes_ends_all_with_the_code_to_requeue_on(
    prepared: Path, tiny_settings, tmp_path: Path
) -> None:
    """Processes that were started without torchrun, as `srun` does."""
    settings = json.dumps(tiny_settings(epochs=500).model_dump(mode="json"))
    line = [sys.executable, "-m", "dsrl", "train", "--stage", "1", "--data", str(prepared)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    other = subprocess.Popen(
        [*line, "--config", settings, "--output", str(tmp_path)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT), **address, **process(1)},
    )
    try:
        code, told = terminate(
            [*line, "--config", settings, "--output", str(tmp_path)],
            tmp_path,
            {**address, **process(0)},
        )
        assert (code, other.wait(timeout=10)) == (os.EX_TEMPFAIL, os.EX_TEMPFAIL), told
    finally:
        other.kill()


def process(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}


def test_sigterm_ends_a_script_that_does_not_catch_it(
    prepared: Path, tiny_settings, tmp_path: Path
) -> None:
    """A traceback keeps the loader alive; its processes must not keep the script from leaving."""
    settings = json.dumps(tiny_settings(num_workers=2, epochs=500).model_dump(mode="json"))
    script = (
        "import sys; from pathlib import Path; from dsrl.config.settings import read_settings;"
        "from dsrl.training.stage import train_stage; settings = read_settings(sys.argv[1]);"
        "paths = map(Path, sys.argv[2:]);"
        "train_stage(settings.recipe(1), settings.resources, *paths)"
    )
    line = [sys.executable, "-c", script, settings, str(prepared), str(tmp_path)]
    code, told = terminate(line, tmp_path)
    assert code == 1
    assert "Stopped: stopped by SIGTERM" in told
