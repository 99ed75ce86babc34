"""Several processes under torchrun do what one does, together."""

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import load_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.evaluation.evaluate import evaluate
from dsrl.system.distributed import process_group, set_up_device

CPU = torch.device("cpu")

# In one start of two processes, as importing PyTorch takes longer than all they do.
TRAIN_AND_EVALUATE = """
import json, sys
from dataclasses import asdict
from pathlib import Path
import torch
from dsrl.cli.main import main
from dsrl.evaluation.evaluate import evaluate
from dsrl.system.distributed import rank, world_size
from dsrl.training import stage
from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import load_weights
config, data, output = sys.argv[1:]
train = stage.train
def train_and_evaluate(run, splits, folder, device, *arguments):
    train(run, splits, folder, device, *arguments)
    torch.distributed.barrier()
    assert world_size() == 2
    weights = load_weights(Path(output, "final.weights"))
    network = build_network(weights, "test")
    scores = evaluate(network, splits.val, weights.info.transform, device, native=True)
    Path(output, f"{rank()}.json").write_text(json.dumps(asdict(scores)))
stage.train = train_and_evaluate
main(["train", "--stage", "1", "--config", config, "--data", data, "--output", output])
"""


def torchrun(*arguments: object) -> str:
    """Run two processes to their end, which a hang is not; returns what they said on stderr."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    ) as process:
        try:
            _, stderr = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.terminate()  # torchrun ends its processes too
            _, stderr = process.communicate()
            pytest.fail(f"two processes hang: {stderr[-3000:]}")
    assert process.returncode == 0, stderr[-3000:]
    return stderr


@pytest.fixture(scope="module")
def stage1(prepared, tiny_settings, tmp_path_factory) -> Path:
    """Folder of a stage 1 that two processes trained, with what both found it to score."""
    folder = tmp_path_factory.mktemp("distributed")
    script = folder / "script.py"
    script.write_text(TRAIN_AND_EVALUATE)
    settings = tiny_settings(checkpoint_history=5)
    stderr = torchrun(script, settings.model_dump_json(), prepared, folder / "stage1")
    (folder / "stage1" / "stderr").write_text(stderr)
    return folder / "stage1"


@pytest.fixture(scope="module")
def alone(prepared, stage1) -> dict[str, object]:
    """The scores of the same weights by one process."""
    weights = load_weights(stage1 / "final.weights")
    network = build_network(weights, "test")
    split = PreparedSplit(prepared, "val")
    return asdict(evaluate(network, split, weights.info.transform, CPU, native=True))


def test_one_of_two_processes_writes(stage1):
    stderr = (stage1 / "stderr").read_text()
    assert stderr.count("epoch 1: ") == stderr.count("epoch 2: ") == 1
    assert len(list((stage1 / "tensorboard").iterdir())) == 1
    rows = pd.read_csv(stage1 / "history.csv")
    assert rows.epoch.tolist() == [1, 2] and rows.total.notna().all()
    checkpoints = {path.name for path in (stage1 / "checkpoints").iterdir()}
    assert checkpoints == {"epoch1.checkpoint", "epoch2.checkpoint"}


def test_scores_during_training_are_those_of_one_process(stage1, alone):
    info = load_weights(stage1 / "final.weights").info
    rows = pd.read_csv(stage1 / "history.csv")
    best = rows.loc[rows.val_mean_iou.idxmax()]
    assert info.epoch == best.epoch
    for name, value in info.scores.items():
        assert value == best[f"val_{name}"] == pytest.approx(alone[name], rel=1e-4)


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_has_the_scores_of_the_whole(stage1, alone, rank):
    found = json.loads((stage1 / f"{rank}.json").read_text())
    # 5 images, 3 for one and 2 for the other
    assert found["class_pixels"] == alone["class_pixels"]
    for name, value in alone.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_a_process_alone_forms_no_group(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group(CPU):
        assert not torch.distributed.is_initialized()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported():
    with pytest.raises(ValueError, match="--device gpu: no CUDA device"):
        set_up_device("gpu")
    assert set_up_device("auto") == CPU
