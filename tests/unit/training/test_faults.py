"""Faults of a running training are told in one line, in terms of what can be changed."""

import os
import shutil
import signal

import pytest
import torch
from training import before_each, record_drawn, spoil_loss, train, validate_as

from dsrl.cli.main import main
from dsrl.data.dataset import TrainingSet
from dsrl.data.manifest import read_manifest
from dsrl.system.faults import explained_faults


@pytest.mark.parametrize(("bad", "number"), [(float("nan"), 4), (float("inf"), 3)])
def test_a_loss_that_is_not_finite_names_step_images_and_checkpoint(
    prepared, tiny_settings, tmp_path, monkeypatch, bad, number
):
    """The images are those that were drawn for the step. An epoch has two."""
    drawn = record_drawn(monkeypatch)
    spoil_loss(monkeypatch, number, bad)
    where = f"loss is NaN or infinite in step {number - 2} of epoch 2, on the images"
    with pytest.raises(ValueError, match=where) as error:
        train(tiny_settings(), 1, prepared, tmp_path)
    samples = read_manifest(prepared / "train").samples
    batch = [samples[index].name for index, _ in drawn[4 * number - 4 : 4 * number]]
    assert f"{where} {', '.join(batch)};" in str(error.value)
    assert f"last good checkpoint is {tmp_path}/checkpoints/epoch1.checkpoint" in str(error.value)
    assert not (tmp_path / "final.weights").exists()


def test_a_training_that_diverges_is_stopped(prepared, tiny_settings, tmp_path):
    with pytest.raises(
        ValueError, match=r"in step \d of epoch 1, on the images demostadt_"
    ) as error:
        train(tiny_settings(learning_rate=1e30), 1, prepared, tmp_path)
    assert "lower the learning rate" in str(error.value)
    assert not list(tmp_path.rglob("*.weights"))


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_labels_is_told_before_the_training_starts(
    prepared, tiny_settings, tmp_path, split
):
    shutil.copytree(prepared, tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / split)
    (tmp_path / "data" / "test").rename(tmp_path / "data" / split)
    with pytest.raises(ValueError, match=rf"data/{split}: no pixel has a label") as error:
        train(tiny_settings(), 1, tmp_path / "data", tmp_path / "out")
    assert "prepare a split that has some" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_weights_that_are_not_finite_are_not_saved(prepared, tiny_settings, tmp_path, monkeypatch):
    def spoil(network: torch.nn.Module) -> None:
        next(network.parameters()).data[0] = torch.nan

    validate_as(monkeypatch, [0.5], spoil)
    with pytest.raises(ValueError, match=r"weights are NaN.*there is no checkpoint yet"):
        train(tiny_settings(), 1, prepared, tmp_path)
    assert not list(tmp_path.rglob("*.checkpoint"))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_out_of_memory_names_batch_and_input_size(error):
    with (
        pytest.raises(ValueError, match="batch_size 6 and input_size 256x512; lower one"),
        explained_faults(6, (256, 512)),
    ):
        raise error


def test_real_lack_of_memory_is_recognised():
    with pytest.raises(ValueError, match="out of memory"), explained_faults(1, (1, 1)):
        torch.empty(2**50)


def test_a_training_without_memory_names_its_batch_and_input_size(
    prepared, tiny_settings, tmp_path, monkeypatch
):
    before_each(monkeypatch, "step", lambda number: torch.empty(2**50))
    with pytest.raises(ValueError, match="batch_size 4 and input_size 32x64; lower one"):
        train(tiny_settings(), 1, prepared, tmp_path)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match="something"), explained_faults(1, (1, 1)):
        raise RuntimeError("something else")


def test_a_data_loader_that_dies_is_reported(prepared, tiny_settings, tmp_path, monkeypatch):
    main_process = os.getpid()

    def die(self, index):
        assert os.getpid() != main_process
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(TrainingSet, "__getitem__", die)
    with pytest.raises(OSError, match=r"a data loader process died.*lower --num-workers"):
        train(tiny_settings(num_workers=1), 1, prepared, tmp_path)


def test_gpu_where_there_is_none(trained, prepared, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    weights = str(trained[1] / "final.weights")
    with pytest.raises(SystemExit, match="--device gpu: no CUDA device is visible"):
        main(["benchmark", "--weights", weights, "--data", str(prepared), "--device", "gpu"])
    with pytest.raises(SystemExit, match="--device cuda: no CUDA device is visible"):
        main(["benchmark", "--weights", weights, "--data", str(prepared), "--device", "cuda"])


def test_data_smaller_than_the_output_are_refused(prepared, tiny_settings, tmp_path):
    with pytest.raises(ValueError, match="stored at 64x128, smaller than the output of 96x128; p"):
        train(tiny_settings(input_size=[48, 64]), 1, prepared, tmp_path / "out")
    assert not (tmp_path / "out").exists()
