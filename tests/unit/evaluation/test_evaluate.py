"""Scores of a network on a split do not depend on the batches; a benchmark has them in a row."""

import dataclasses
import itertools
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import Weights, save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import resize_logits
from dsrl.evaluation import ConfusionMatrix
from dsrl.evaluation.benchmark import benchmark, constant_scores, most_frequent_class
from dsrl.evaluation.evaluate import evaluate, near_another_class
from dsrl.models.cost import flops, parameters

CPU = torch.device("cpu")


class Exact(torch.nn.Module):
    """A network in float64: in float32 a batch of another size rounds differently, so that a pixel
    may get another class."""

    def __init__(self, network: torch.nn.Module):
        super().__init__()
        self.network = network.double()

    def forward(self, images: torch.Tensor):
        return self.network(images.double())


@pytest.fixture(scope="module")
def weights(make_weights):
    return make_weights(1, encoder="test_resnet")


@pytest.fixture(scope="module")
def network(weights):
    return Exact(build_network(weights, "test")).eval()


@pytest.fixture
def score(network, weights):
    """`evaluate` with the network on the CPU."""
    return partial(evaluate, network, transform=weights.info.transform, device=CPU)


def test_scores_do_not_depend_on_the_batch_size(prepared, score):
    split = PreparedSplit(prepared, "val")
    expected = dataclasses.asdict(score(split, batch_size=5, native=True))
    for batch_size in (1, 2, 4):
        found = dataclasses.asdict(score(split, batch_size=batch_size, native=True))
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-6, err_msg=name)


def test_scores_are_those_of_each_image_alone(prepared, weights, network, score):
    split = PreparedSplit(prepared, "val")
    confusion, cross_entropy = ConfusionMatrix(len(split.manifest.classes)), 0.0
    accuracies, ious = [], []
    for image, label in zip(split.images, split.labels, strict=True):
        target = torch.from_numpy(label.copy()).long()[None]
        with torch.no_grad():
            inputs = weights.info.transform(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
            logits = network(inputs).logits.float()
        confusion.update(logits.argmax(1), target)
        alone = ConfusionMatrix(len(split.manifest.classes))
        alone.update(logits.argmax(1), target)
        accuracies.append(alone.pixel_accuracy)
        ious.append(alone.per_class_iou.tolist())
        losses = -logits.log_softmax(1).gather(1, target.clamp(max=logits.shape[1] - 1)[:, None])
        cross_entropy += float(losses[:, 0][target != 255].sum())
    scores = score(split)
    assert scores.mean_iou == pytest.approx(confusion.mean_iou)
    assert scores.mean_iou_per_image == pytest.approx(confusion.mean_iou_per_image)
    assert scores.pixel_accuracy == pytest.approx(confusion.pixel_accuracy)
    assert scores.class_pixels == confusion.matrix.sum(1).tolist()
    assert scores.confusion == confusion.matrix.tolist()
    assert scores.image_accuracy == pytest.approx(accuracies)
    np.testing.assert_allclose(scores.image_iou, ious)
    labelled = int((split.labels != 255).sum())
    assert scores.cross_entropy == pytest.approx(cross_entropy / labelled, rel=1e-5)


def test_the_mode_of_the_network_is_left_as_it_was(prepared, weights):
    network = build_network(weights, "test").train()
    before = {name: layer.clone() for name, layer in network.state_dict().items()}
    evaluate(network, PreparedSplit(prepared, "val"), weights.info.transform, CPU)
    assert network.training
    assert all(torch.equal(layer, before[name]) for name, layer in network.state_dict().items())


def test_native_scores_are_the_usual_ones_where_sizes_agree(prepared, score):
    scores = score(PreparedSplit(prepared, "val"), native=True)
    assert scores.mean_iou_native == scores.mean_iou
    assert 0 < scores.mean_iou < 1


def test_native_scores_compare_with_each_label_at_its_own_size(
    prepared, weights, network, score, tmp_path
):
    # The images of `prepared`, stored at half their size: labels keep theirs.
    raw = prepared.parent / "raw"
    description = load_description("demo")
    preprocess(description, raw, "val", (32, 64), tmp_path / "val", jobs=1)
    split = PreparedSplit(tmp_path, "val")
    confusion = ConfusionMatrix(len(split.manifest.classes))
    for index, image in enumerate(split.images):
        inputs = weights.info.transform(torch.from_numpy(image.copy()).permute(2, 0, 1)[None])
        with torch.no_grad():
            logits = network(inputs).logits.float().contiguous()
        label = torch.from_numpy(split.native_label(index).copy())[None]
        assert label.shape == (1, 64, 128)
        confusion.update(resize_logits(logits, (64, 128)).argmax(1), label)
    scores = score(split, native=True, batch_size=2)
    assert scores.mean_iou_native == pytest.approx(confusion.mean_iou)


@pytest.mark.parametrize("answer", range(4))
def test_the_baseline_is_a_confusion_matrix_of_constant_answers(answer):
    target = torch.tensor([0, 0, 0, 0, 1, 1, 3, 255]).view(1, 2, 4)  # class 2 does not occur
    confusion = ConfusionMatrix(5)
    confusion.update(torch.full_like(target, answer), target)
    accuracy, mean_iou = constant_scores(confusion.matrix.sum(1).tolist(), answer)
    assert accuracy == pytest.approx(confusion.pixel_accuracy)
    assert mean_iou == pytest.approx(confusion.mean_iou)


def test_the_most_frequent_class_is_that_of_the_training_split(prepared, tmp_path):
    (tmp_path / "val").symlink_to(prepared / "val")
    val = PreparedSplit(tmp_path, "val")
    counts = np.bincount(val.labels.ravel(), minlength=256)[:255]
    assert most_frequent_class(val) == counts.argmax(), "without a training split"
    manifest = json.loads((prepared / "train" / "manifest.json").read_text())
    manifest["class_pixels"][5] = 10**9
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "manifest.json").write_text(json.dumps(manifest))
    assert most_frequent_class(val) == 5 != counts.argmax()


def call_benchmark(weights, prepared: Path, folder: Path, **options) -> Path:
    """Benchmark saved weights on the CPU; returns the path of the text."""
    save_weights(folder / "w.weights", weights)
    output = folder / "out" / "benchmark.txt"
    values = {"split": "val", "output": output, "device": "cpu", "latency_runs": 1} | options
    benchmark(folder / "w.weights", prepared, **values)
    return output


def test_a_benchmark_has_scores_and_cost_of_the_inference_network(prepared, weights, tmp_path):
    network = build_network(weights, "test")
    output = call_benchmark(weights, prepared, tmp_path, experiment="name", seed=7)
    (row,) = pd.read_csv(output.with_suffix(".csv")).to_dict("records")
    scores = evaluate(network, PreparedSplit(prepared, "val"), weights.info.transform, CPU)
    assert (row["experiment"], row["seed"], row["type"], row["split"]) == ("name", 7, "SSSR", "val")
    assert (row["sizes"], row["images"]) == ("32x64 -> 64x128", 5)
    assert row["mean_iou"] == pytest.approx(scores.mean_iou)
    assert row["mean_iou_native"] == pytest.approx(scores.mean_iou)
    assert row["parameters"] == parameters(network)
    assert row["gflops"] == pytest.approx(flops(network, (32, 64)) / 1e9)
    assert "| SSSR " in output.read_text()


def test_a_benchmark_has_the_confusion_of_classes_and_the_scores_of_images(
    prepared, weights, tmp_path
):
    output = call_benchmark(weights, prepared, tmp_path)
    split = PreparedSplit(prepared, "val")
    scores = evaluate(build_network(weights, "test"), split, weights.info.transform, CPU)
    confusion = pd.read_csv(output.with_suffix(".confusion.csv"), index_col="truth")
    names = [c.name for c in split.manifest.classes]
    assert confusion.index.tolist() == confusion.columns.tolist() == names
    assert confusion.to_numpy().tolist() == scores.confusion
    assert np.trace(confusion) / confusion.to_numpy().sum() == pytest.approx(scores.pixel_accuracy)
    images = pd.read_csv(output.with_suffix(".images.csv"), dtype={"image": str})
    assert images.image.tolist() == [sample.name for sample in split.manifest.samples]
    assert images.mean_iou.mean() == pytest.approx(scores.mean_iou_per_image)
    assert images.pixel_accuracy.tolist() == pytest.approx(scores.image_accuracy)
    np.testing.assert_allclose(images[[f"iou_{name}" for name in names]], scores.image_iou)


def test_a_benchmark_of_a_split_without_labels_is_refused(prepared, weights, tmp_path):
    with pytest.raises(ValueError, match="no pixel has a label"):
        call_benchmark(weights, prepared, tmp_path, split="test")
    assert not (tmp_path / "out").exists()


def test_a_benchmark_of_other_classes_is_refused_with_what_differs(
    prepared, make_weights, tmp_path
):
    expected = (
        r"^\S+w\.weights: trained on the classes of 'demo', .*/val \(4 there, 19 here\); .*--data"
    )
    with pytest.raises(ValueError, match=expected):
        call_benchmark(make_weights(1, num_classes=4), prepared, tmp_path)
    weights = make_weights(1)
    first, *rest = weights.info.classes
    other = first.model_copy(update={"name": "another"})
    info = weights.info.model_copy(update={"classes": (other, *rest)})
    with pytest.raises(ValueError, match=rf"\('another' there, '{first.name}' here\)"):
        call_benchmark(Weights(info, weights.layers), prepared, tmp_path)


def test_near_another_class_is_a_window_that_has_one():
    labels = torch.randint(3, (2, 9, 14), generator=torch.Generator().manual_seed(0)).byte()
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)
    labels[:, 10:20, 15:40] = 255
    found = near_another_class(labels, 3)
    for image, row, column in itertools.product(range(2), range(36), range(56)):
        window = labels[image, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        own = labels[image, row, column]
        expected = own != 255 and bool(((window != own) & (window != 255)).any())
        assert found[image, row, column] == expected
    assert 0.2 < found.float().mean() < 0.9


def test_boundary_iou_counts_only_pixels_near_another_class(prepared, weights, network, score):
    split = PreparedSplit(prepared, "val")
    confusion = ConfusionMatrix(len(split.manifest.classes))
    for index in range(len(split)):
        image, label = split.sample(index)
        with torch.no_grad():
            prediction = network(weights.info.transform(image[None])).logits.argmax(1)
        near = near_another_class(label[None], 3)
        confusion.update(prediction.byte(), label[None].masked_fill(~near, 255))
    assert score(split, boundaries=True).boundary_iou == pytest.approx(confusion.mean_iou)
    assert math.isnan(score(split).boundary_iou)


@pytest.mark.parametrize(
    ("stage", "loss", "name"),
    [
        (1, {}, "SSSR"),
        (2, {"w1": 0.1}, "SSSR+SISR"),
        (2, {"w1": 0.0}, "SSSR (stage 2)"),
        (3, {"w1": 0.1, "w2": 1.0}, "SSSR+SISR+FA"),
        (3, {"w1": 0.1, "w2": 0.0}, "SSSR+SISR (stage 3)"),
        (3, {"w1": 0.0, "w2": 0.0}, "SSSR (stage 3)"),
        (3, {"w1": 0.0, "w2": 1.0}, "SSSR+FA (stage 3)"),
    ],
)
def test_a_row_is_called_by_what_acted(weights, stage, loss, name):
    recipe = {"recipe": {"loss": loss}}
    assert weights.info.model_copy(update={"stage": stage, "provenance": recipe}).type == name
