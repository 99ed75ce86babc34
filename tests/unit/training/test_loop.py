"""Training of a stage: repeatable, resumable bit for bit, and honest about which epoch was best."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from dsrl.checkpoints.weights import build_network, load_weights, save_weights
from dsrl.data.dataset import PreparedSplit, TrainingSet
from dsrl.evaluation.evaluate import evaluate
from dsrl.system.signals import StopRequest
from dsrl.training.loop import train_stage
from dsrl.training.start import find_start
from dsrl.training.trainer import Trainer

CPU = torch.device("cpu")


def layers(folder: Path):
    return load_weights(folder / "final.weights").layers


def same(first, second) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="images_per_second")


def trainer(settings, stage, prepared, folder, previous=None) -> Trainer:
    start = find_start(settings, stage, previous, folder)
    return Trainer(settings, stage, prepared, folder, CPU, start, StopRequest())


def interrupt(monkeypatch, step: int) -> None:
    """Make training fail in the middle of its `step`-th step, counted from 1."""
    done, whole_step = [], Trainer._step

    def broken(self, sample):
        done.append(None)
        if len(done) == step:
            whole_step(self, sample)
            raise KeyboardInterrupt
        return whole_step(self, sample)

    monkeypatch.setattr(Trainer, "_step", broken)


KILLED = """
import os, signal, sys
from pathlib import Path
from dsrl.config.settings import read_settings
from dsrl.training.loop import Trainer, train_stage
whole_step, steps = Trainer._step, []
def killed(self, sample):
    steps.append(None)
    if len(steps) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole_step(self, sample)
Trainer._step = killed
settings, data, output, previous = sys.argv[1:]
train_stage(read_settings(settings), 3, Path(data), Path(output), Path(previous))
"""


def test_the_same_training_twice_gives_the_same_bits(prepared, tiny_settings, trained, tmp_path):
    torch.rand(17)
    for stage in (1, 3):
        previous = trained[2] / "final.weights" if stage == 3 else None
        train_stage(tiny_settings(num_workers=2), stage, prepared, tmp_path / str(stage), previous)
        assert same(layers(tmp_path / str(stage)), layers(trained[stage]))
        pd.testing.assert_frame_equal(history(tmp_path / str(stage)), history(trained[stage]))


def test_another_seed_gives_other_weights(prepared, tiny_settings, trained, tmp_path):
    train_stage(tiny_settings(seed=2), 1, prepared, tmp_path)
    assert not same(layers(tmp_path), layers(trained[1]))


@pytest.mark.parametrize("step", [1, 3, 4, 5])
def test_an_interrupted_training_ends_as_an_undisturbed_one(
    prepared, tiny_settings, trained, tmp_path, monkeypatch, step
):
    settings = tiny_settings(epochs=3)
    train_stage(settings, 1, prepared, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, step)
        train_stage(settings, 1, prepared, tmp_path / "cut")
    assert not (tmp_path / "cut" / "final.weights").exists()
    torch.rand(step)
    resumed = trainer(settings, 1, prepared, tmp_path / "cut")
    resumed.resume()
    assert resumed.epoch == (step - 1) // 2  # two steps an epoch: only finished ones are kept
    resumed.run()
    assert same(layers(tmp_path / "cut"), layers(tmp_path / "whole"))
    pd.testing.assert_frame_equal(history(tmp_path / "cut"), history(tmp_path / "whole"))


def test_a_killed_training_ends_as_an_undisturbed_one(prepared, tiny_settings, trained, tmp_path):
    previous = trained[2] / "final.weights"
    text = tiny_settings().model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, text, prepared, tmp_path, previous],
        timeout=120,
        capture_output=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "checkpoints" / "latest").exists()
    resumed = trainer(tiny_settings(), 3, prepared, tmp_path, previous)
    resumed.resume()
    assert resumed.epoch == 1
    resumed.run()
    assert same(layers(tmp_path), layers(trained[3]))
    pd.testing.assert_frame_equal(history(tmp_path), history(trained[3]))


@pytest.fixture
def cut(prepared, tiny_settings, trained, tmp_path, monkeypatch) -> Path:
    """The folder of a stage 2 that was interrupted after its first epoch."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt(patch, 3)
        train_stage(tiny_settings(), 2, prepared, tmp_path / "cut", trained[1] / "final.weights")
    return tmp_path / "cut"


def resumed_epoch(settings, data, folder, previous) -> int:
    again = trainer(settings, 2, data, folder, previous)
    again.resume()
    return again.epoch


def test_resume_state_of_the_same_training_is_taken_up(cut, prepared, tiny_settings, trained):
    # neither the unused loss weight nor the number of workers is a reason to start afresh
    settings = tiny_settings(num_workers=1, w2=0.123, experiment="renamed")
    assert resumed_epoch(settings, prepared, cut, trained[1] / "final.weights") == 1


@pytest.mark.parametrize("changes", [{"w1": 0.2}, {"seed": 3}, {"epochs": 3}, {"flip": 0.4}])
def test_other_settings_discard_resume_state(cut, prepared, tiny_settings, trained, changes):
    previous = trained[1] / "final.weights"
    assert resumed_epoch(tiny_settings(**changes), prepared, cut, previous) == 0
    assert list((cut / "checkpoints").iterdir()) == []


def test_other_data_discards_resume_state(cut, prepared, tiny_settings, trained, tmp_path):
    data = shutil.copytree(prepared, tmp_path / "data")
    manifest = data / "val" / "manifest.json"
    checksum = PreparedSplit(data, "val").manifest.checksums["labels.npy"]
    manifest.write_text(manifest.read_text().replace(checksum, "0" * 64))
    assert resumed_epoch(tiny_settings(), data, cut, trained[1] / "final.weights") == 0


def test_other_previous_weights_discard_resume_state(
    cut, prepared, tiny_settings, make_weights, tmp_path
):
    save_weights(tmp_path / "other.weights", make_weights(1, seed=9))
    assert resumed_epoch(tiny_settings(), prepared, cut, tmp_path / "other.weights") == 0


def test_a_finished_training_starts_afresh(prepared, tiny_settings, trained, tmp_path):
    folder = shutil.copytree(trained[1], tmp_path / "stage1")
    again = trainer(tiny_settings(), 1, prepared, folder)
    again.resume()
    assert again.epoch == 0


@pytest.fixture(scope="module")
def long(prepared, tiny_settings, tmp_path_factory) -> Path:
    """A stage 1 whose last epoch is not its best: its learning rate does not fall."""
    folder = tmp_path_factory.mktemp("long")
    settings = tiny_settings(epochs=8, learning_rate=0.2, end_learning_rate=0.2, val_interval=3)
    train_stage(settings, 1, prepared, folder)
    return folder


def test_only_every_so_many_epochs_and_the_last_are_validated(long):
    rows = pd.read_csv(long / "history.csv")
    assert rows.epoch.tolist() == list(range(1, 9))
    assert rows.epoch[rows.val_mean_iou.notna()].tolist() == [3, 6, 8]


@pytest.mark.parametrize("which", [1, 2, 3, "long"])
def test_final_weights_are_those_of_the_best_epoch(prepared, trained, long, which):
    folder = long if which == "long" else trained[which]
    rows = pd.read_csv(folder / "history.csv")
    best = rows.loc[rows.val_mean_iou.idxmax()]
    weights = load_weights(folder / "final.weights")
    assert weights.info.epoch == best.epoch
    network = build_network(weights, "test", stage=weights.info.stage)
    scores = evaluate(network, PreparedSplit(prepared, "val"), weights.info.transform, CPU)
    for name, value in weights.info.scores.items():
        assert getattr(scores, name) == pytest.approx(value, rel=1e-5)
        assert best[f"val_{name}"] == pytest.approx(value)


def test_the_best_epoch_need_not_be_the_last(prepared, tiny_settings, tmp_path, monkeypatch):
    network_of_epoch = {}

    def worse_and_worse(self):
        row = validate(self)
        network_of_epoch[self.epoch + 1] = {
            k: v.clone() for k, v in self.network.state_dict().items()
        }
        return row

    def scores(*args, **kwargs):
        found = evaluate(*args, **kwargs)
        values = [0.2, 0.5, 0.5, 0.3]
        object.__setattr__(found, "mean_iou", values[len(network_of_epoch)])
        return found

    validate = Trainer._validate
    monkeypatch.setattr(Trainer, "_validate", worse_and_worse)
    monkeypatch.setattr("dsrl.training.trainer.evaluate", scores)
    train_stage(tiny_settings(epochs=4), 1, prepared, tmp_path)
    weights = load_weights(tmp_path / "final.weights")
    assert weights.info.epoch == 2 and weights.info.scores["mean_iou"] == 0.5
    assert same(weights.layers, network_of_epoch[2])
    assert not same(weights.layers, network_of_epoch[4])


def test_loss_falls_and_parts_add_up(long, trained):
    rows = pd.read_csv(long / "history.csv")
    assert rows.total.iloc[-1] < 0.75 * rows.total.iloc[0]
    for stage in (1, 2, 3):
        rows = pd.read_csv(trained[stage] / "history.csv")
        total = rows.cross_entropy + 0.1 * rows.mean_squared_error + rows.feature_affinity
        assert rows.total.tolist() == pytest.approx(total.tolist(), rel=1e-4)
        assert (rows.mean_squared_error > 0).all() == (stage >= 2)
        assert (rows.feature_affinity > 0).all() == (stage == 3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimiser_changes_every_parameter(prepared, tiny_settings, trained, tmp_path, stage):
    previous = trained[stage - 1] / "final.weights" if stage > 1 else None
    whole = trainer(tiny_settings(), stage, prepared, tmp_path, previous)
    before = {name: p.detach().clone() for name, p in whole.network.named_parameters()}
    whole.run()
    unchanged = [n for n, p in whole.network.named_parameters() if torch.equal(p, before[n])]
    assert unchanged == []


def test_frozen_batch_norm_is_left_as_loaded(prepared, tiny_settings, trained, tmp_path):
    settings = tiny_settings(freeze_batch_norm=True)
    previous = trained[1] / "final.weights"
    start = trainer(settings, 2, prepared, tmp_path, previous)
    norms = {
        name
        for name, module in start.network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    }
    before = {name: layer.clone() for name, layer in start.network.state_dict().items()}
    start.run()
    changed = {k for k, v in start.network.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {
        name for name, _ in start.network.named_parameters() if name.rpartition(".")[0] not in norms
    }


def test_training_stops_early_when_nothing_improves(prepared, tiny_settings, tmp_path, monkeypatch):
    values = iter([0.1, 0.4, 0.3, 0.4, 0.2, 0.9])

    def scores(*args, **kwargs):
        found = evaluate(*args, **kwargs)
        object.__setattr__(found, "mean_iou", next(values))
        return found

    monkeypatch.setattr("dsrl.training.trainer.evaluate", scores)
    train_stage(tiny_settings(epochs=6, early_stopping=2), 1, prepared, tmp_path)
    assert pd.read_csv(tmp_path / "history.csv").epoch.tolist() == [1, 2, 3, 4]
    assert load_weights(tmp_path / "final.weights").info.epoch == 2


@pytest.mark.parametrize("stage", [2, 3])
def test_a_stage_starts_from_the_one_before(prepared, tiny_settings, trained, tmp_path, stage):
    previous = trained[stage - 1] / "final.weights"
    start = trainer(tiny_settings(), stage, prepared, tmp_path, previous).network.state_dict()
    expected = layers(trained[stage - 1])
    assert same({name: start[name] for name in expected}, expected)


def test_a_stage_may_start_as_stage_1_does(prepared, tiny_settings, trained, tmp_path):
    settings = tiny_settings(init="encoder")
    for previous in (None, trained[1] / "final.weights"):
        first = trainer(settings, 1, prepared, tmp_path, previous).network.state_dict()
        second = trainer(settings, 2, prepared, tmp_path, previous).network.state_dict()
        shared = {n: second[n] for n in first if n.startswith("encoder.backbone")}
        assert shared and same(shared, {name: first[name] for name in shared})
    expected = layers(trained[1])
    assert same(shared, {name: expected[name] for name in shared}), "of a file, the encoder"


def test_stage_2_needs_weights_to_start_from(prepared, tiny_settings, tmp_path):
    with pytest.raises(ValueError, match="--init-weights"):
        train_stage(tiny_settings(), 2, prepared, tmp_path)
    assert not (tmp_path / "final.weights").exists()


def test_weights_of_another_network_are_no_start(prepared, tiny_settings, make_weights, tmp_path):
    save_weights(tmp_path / "w.weights", make_weights(1, encoder="resnet18"))
    with pytest.raises(ValueError, match=r"w\.weights: is of another architecture: encoder is"):
        train_stage(tiny_settings(), 2, prepared, tmp_path, tmp_path / "w.weights")


def test_a_batch_larger_than_the_data_is_refused(prepared, tiny_settings, tmp_path):
    with pytest.raises(ValueError, match="batch_size 11 is more than the 10 training images"):
        train_stage(tiny_settings(batch_size=11), 1, prepared, tmp_path)
    train_stage(tiny_settings(batch_size=10, epochs=1), 1, prepared, tmp_path)


def test_the_learning_rate_follows_the_schedule_over_all_steps(prepared, tiny_settings, tmp_path):
    whole = trainer(tiny_settings(learning_rate=0.05, epochs=2), 1, prepared, tmp_path)
    assert whole.steps == 4
    rates = []
    whole.optimizer.register_step_pre_hook(
        lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"])
    )
    whole.run()
    assert rates == pytest.approx([0.05 * (1 - step / 4) ** 0.9 for step in range(4)])


def test_every_epoch_draws_all_images_anew_and_in_another_order(prepared, tiny_settings, tmp_path):
    class Recorded(TrainingSet):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            drawn.append((index, sample.target.sum().item()))
            return sample

    drawn: list[tuple[int, int]] = []
    whole = trainer(tiny_settings(batch_size=5), 1, prepared, tmp_path)
    whole.dataset.__class__ = Recorded
    whole.run()
    first, second = drawn[:10], drawn[10:]
    orders = [[index for index, _ in epoch] for epoch in (first, second)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert not set(first) & set(second), "an image was changed in the same way in both epochs"
