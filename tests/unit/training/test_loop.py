"""Training of a stage: it learns by the schedule, keeps its best epoch, and can be repeated."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from training import (
    assert_same_training,
    final_layers,
    first_layers,
    history,
    record_drawn,
    same,
    train,
    validate_as,
)

from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import load_weights, save_weights
from dsrl.data.dataset import PreparedSplit, TrainingSet
from dsrl.data.manifest import IGNORE_INDEX, read_manifest
from dsrl.evaluation.evaluate import evaluate
from dsrl.losses import Losses
from dsrl.training.state import TrainingState, shares_batch_norm

CPU = torch.device("cpu")


@pytest.mark.parametrize("stage", [1, 3])
def test_the_same_training_twice_gives_the_same_bits(
    prepared, tiny_settings, trained, tmp_path, stage
):
    """Whatever random numbers were drawn before, and whoever loads the images."""
    torch.rand(17)
    previous = trained[stage - 1] / "final.weights" if stage > 1 else None
    train(tiny_settings(num_workers=2), stage, prepared, tmp_path, previous)
    assert_same_training(tmp_path, trained[stage])


def test_another_seed_gives_other_weights(prepared, tiny_settings, trained, tmp_path):
    train(tiny_settings(seed=2), 1, prepared, tmp_path)
    assert not same(final_layers(tmp_path), final_layers(trained[1]))


def test_a_list_of_class_weights_acts(prepared, tiny_settings, trained, tmp_path):
    ones = [1.0] * len(read_manifest(prepared / "train").classes)
    train(tiny_settings(class_weights=ones), 1, prepared, tmp_path / "ones")
    assert same(final_layers(tmp_path / "ones"), final_layers(trained[1])), "no weights at all"
    train(tiny_settings(class_weights=[5.0, *ones[1:]]), 1, prepared, tmp_path / "first")
    assert not same(final_layers(tmp_path / "first"), final_layers(trained[1]))


@pytest.fixture(scope="module")
def long(prepared, tiny_settings, tmp_path_factory) -> Path:
    """A stage 1 whose last epoch is not its best: its learning rate does not fall."""
    folder = tmp_path_factory.mktemp("long")
    settings = tiny_settings(epochs=8, learning_rate=0.2, end_learning_rate=0.2, val_interval=3)
    train(settings, 1, prepared, folder)
    return folder


def check_final_weights(folder: Path, data: Path) -> None:
    """They are those of the best epoch: scored again, they have its scores."""
    rows = pd.read_csv(folder / "history.csv")
    best = rows.loc[rows.val_mean_iou.idxmax()]
    weights = load_weights(folder / "final.weights")
    assert weights.info.epoch == best.epoch
    network = build_network(weights, "test", stage=weights.info.stage)
    scores = evaluate(network, PreparedSplit(data, "val"), weights.info.transform, CPU)
    for name, value in weights.info.scores.items():
        assert getattr(scores, name) == pytest.approx(value, rel=1e-5)
        assert best[f"val_{name}"] == pytest.approx(value)


def test_a_longer_training(prepared, long):
    """It learns, is validated every so many epochs and after the last, and keeps the best."""
    rows = pd.read_csv(long / "history.csv")
    assert rows.epoch.tolist() == list(range(1, 9))
    assert rows.epoch[rows.val_mean_iou.notna()].tolist() == [3, 6, 8]
    assert rows.total.iloc[-1] < 0.85 * rows.total.iloc[0]
    check_final_weights(long, prepared)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_final_weights_are_those_of_the_best_epoch(prepared, trained, stage):
    check_final_weights(trained[stage], prepared)


def test_epochs_add_up_over_the_stages(trained):
    infos = [load_weights(trained[stage] / "final.weights").info for stage in (1, 2, 3)]
    each = [info.provenance["recipe"]["training"]["epochs"] for info in infos]
    assert [info.epochs for info in infos] == [sum(each[:n]) for n in (1, 2, 3)]


def test_the_best_epoch_need_not_be_the_last(prepared, tiny_settings, tmp_path, monkeypatch):
    validated = validate_as(monkeypatch, [0.2, 0.5, 0.5, 0.3])
    train(tiny_settings(epochs=4), 1, prepared, tmp_path)
    weights = load_weights(tmp_path / "final.weights")
    assert weights.info.epoch == 2 and weights.info.scores["mean_iou"] == 0.5
    assert same(dict(weights.layers), validated[1])
    assert not same(dict(weights.layers), validated[3])


def test_training_stops_early_when_nothing_improves(prepared, tiny_settings, tmp_path, monkeypatch):
    validate_as(monkeypatch, [0.1, 0.4, 0.3, 0.4, 0.2, 0.9])
    train(tiny_settings(epochs=6, early_stopping=2), 1, prepared, tmp_path)
    assert pd.read_csv(tmp_path / "history.csv").epoch.tolist() == [1, 2, 3, 4]
    assert load_weights(tmp_path / "final.weights").info.epoch == 2


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_loss_is_the_sum_of_the_parts_that_a_stage_has(trained, stage):
    rows = history(trained[stage])
    total = rows.cross_entropy + 0.1 * rows.mean_squared_error + rows.feature_affinity
    assert rows.total.tolist() == pytest.approx(total.tolist(), rel=1e-4)
    assert (rows.mean_squared_error > 0).all() == (stage >= 2)
    assert (rows.feature_affinity > 0).all() == (stage == 3)


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_optimiser_changes_every_parameter(prepared, tiny_settings, trained, tmp_path, stage):
    previous = trained[stage - 1] / "final.weights" if stage > 1 else None
    before = first_layers(tiny_settings(), stage, prepared, tmp_path, previous)
    after = final_layers(trained[stage])
    unchanged = {name for name, layer in before.items() if torch.equal(after[name], layer)}
    assert not unchanged


def test_batches_without_labels_do_not_lower_the_mean_loss(
    prepared, tiny_settings, trained, tmp_path, monkeypatch
):
    """The cross entropy of an epoch is the mean over its labelled pixels."""
    original, steps = TrainingSet.__getitem__, []

    def unlabelled(self, key):
        sample = original(self, key)
        if key[1] < 5:  # of eight images
            sample.labels.fill_(IGNORE_INDEX)
        return sample

    def record(state, losses, labelled_pixels):
        steps.append((losses, labelled_pixels.item()))
        add(state, losses, labelled_pixels)

    add = TrainingState.add
    monkeypatch.setattr(TrainingSet, "__getitem__", unlabelled)
    monkeypatch.setattr(TrainingState, "add", record)
    settings = tiny_settings(epochs=1, batch_size=2)
    train(settings, 2, prepared, tmp_path, trained[1] / "final.weights")
    pixels = torch.tensor([count for _, count in steps]).double()
    assert 0 in pixels and len(pixels.unique()) > 1
    losses = {name: torch.stack([getattr(x, name) for x, _ in steps]) for name in Losses._fields}
    cross_entropy = ((losses["cross_entropy"] * pixels).sum() / pixels.sum()).item()
    mse = losses["mean_squared_error"].mean().item()
    (row,) = history(tmp_path).to_dict("records")
    assert row["cross_entropy"] == pytest.approx(cross_entropy)
    assert row["mean_squared_error"] == pytest.approx(mse)
    assert row["total"] == pytest.approx(cross_entropy + settings.loss.w1 * mse)


def test_frozen_batch_norm_is_left_as_loaded(prepared, tiny_settings, trained, tmp_path):
    settings = tiny_settings(freeze_batch_norm=True, epochs=1)
    previous = trained[1] / "final.weights"
    before = first_layers(settings, 2, prepared, tmp_path, previous)
    train(settings, 2, prepared, tmp_path, previous)
    after = final_layers(tmp_path)
    norms = {n.removesuffix("running_mean") for n in before if n.endswith("running_mean")}
    frozen = {
        name
        for name in before
        if name.rpartition(".")[0] + "." in norms and name.startswith("encoder.backbone.")
    }
    assert frozen and {n for n, layer in before.items() if torch.equal(after[n], layer)} == frozen


def test_norms_that_were_never_trained_are_not_frozen(prepared, tiny_settings, tmp_path):
    settings = tiny_settings(freeze_batch_norm=True, epochs=1)
    before = first_layers(settings, 1, prepared, tmp_path)
    train(settings, 1, prepared, tmp_path)
    after = final_layers(tmp_path)
    assert not [n for n, layer in before.items() if torch.equal(after[n], layer)]


def test_batch_norm_is_shared_where_each_process_has_few_images(tiny_settings):
    def shared(processes: int, **settings: object) -> bool:
        return shares_batch_norm(tiny_settings(**settings).recipe(1), processes)

    assert shared(2, batch_size=16) and not shared(2, batch_size=32) and not shared(1)
    assert shared(2, batch_size=32, sync_batch_norm="always")
    assert not shared(2, batch_size=16, sync_batch_norm="never")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_trains_nearly_alike(prepared, tiny_settings, trained, tmp_path, precision):
    train(tiny_settings(precision=precision), 1, prepared, tmp_path)
    exact, found = history(trained[1]), history(tmp_path)
    assert found.total.tolist() == pytest.approx(exact.total.tolist(), rel=0.05)
    assert not same(final_layers(tmp_path), final_layers(trained[1]))


@pytest.mark.parametrize("stage", [2, 3])
def test_a_stage_starts_from_the_one_before(prepared, tiny_settings, trained, tmp_path, stage):
    previous = trained[stage - 1] / "final.weights"
    start = first_layers(tiny_settings(), stage, prepared, tmp_path, previous)
    expected = final_layers(trained[stage - 1])
    assert same({name: start[name] for name in expected}, expected)


def test_a_stage_may_start_as_stage_1_does(prepared, tiny_settings, trained, tmp_path):
    settings = tiny_settings(init="encoder")
    for previous in (None, trained[1] / "final.weights"):
        first = first_layers(settings, 1, prepared, tmp_path, previous)
        second = first_layers(settings, 2, prepared, tmp_path, previous)
        shared = {n: second[n] for n in first if n.startswith("encoder.backbone")}
        assert shared and same(shared, {name: first[name] for name in shared})
    expected = final_layers(trained[1])
    assert same(shared, {name: expected[name] for name in shared}), "of a file, the encoder"


def test_stage_2_needs_weights_to_start_from(prepared, tiny_settings, tmp_path):
    with pytest.raises(ValueError, match="--init-weights"):
        train(tiny_settings(), 2, prepared, tmp_path)
    assert not (tmp_path / "final.weights").exists()


def test_weights_of_another_network_are_no_start(prepared, tiny_settings, make_weights, tmp_path):
    save_weights(tmp_path / "w.weights", make_weights(1, encoder="resnet18"))
    with pytest.raises(ValueError, match=r"w\.weights: is of another architecture: encoder is"):
        train(tiny_settings(), 2, prepared, tmp_path, tmp_path / "w.weights")


def test_a_batch_larger_than_the_data_is_refused(prepared, tiny_settings, tmp_path):
    with pytest.raises(ValueError, match="batch_size 11 is larger than the 10 training images"):
        train(tiny_settings(batch_size=11), 1, prepared, tmp_path)
    train(tiny_settings(batch_size=10, epochs=1), 1, prepared, tmp_path)


def test_the_learning_rate_follows_the_schedule_over_all_steps(
    prepared, tiny_settings, tmp_path, monkeypatch
):
    rates, step = [], torch.optim.SGD.step

    def recorded(self, *arguments, **options):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *arguments, **options)

    monkeypatch.setattr(torch.optim.SGD, "step", recorded)
    train(tiny_settings(learning_rate=0.05, epochs=2), 1, prepared, tmp_path)
    assert rates == pytest.approx([0.05 * (1 - step / 4) ** 0.9 for step in range(4)])


def test_every_epoch_draws_all_images_anew_and_in_another_order(
    prepared, tiny_settings, tmp_path, monkeypatch
):
    drawn = record_drawn(monkeypatch)
    train(tiny_settings(batch_size=5), 1, prepared, tmp_path)
    first, second = drawn[:10], drawn[10:]
    orders = [[index for index, _ in epoch] for epoch in (first, second)]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1]) == list(range(10))
    assert not set(first) & set(second), "an image was changed in the same way in both epochs"
