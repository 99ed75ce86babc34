"""The confusion matrix against loops over pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from dsrl.data.description import load_description
from dsrl.evaluation import ConfusionMatrix, metrics

CLASSES = 5


def naive_iou(prediction: np.ndarray, target: np.ndarray) -> list[float]:
    """Per class, over the pixels of the arrays; NaN where a class occurs in neither."""
    ious = []
    for c in range(CLASSES):
        intersection = union = 0
        for p, t in zip(prediction.flat, target.flat, strict=True):
            if t != 255:
                intersection += p == c and t == c
                union += p == c or t == c
        ious.append(intersection / union if union else math.nan)
    return ious


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """Predictions and targets (6, 7, 9): class 4 occurs nowhere, image 2 is ignored as a whole."""
    rng = np.random.default_rng(0)
    target = rng.integers(4, size=(6, 7, 9), dtype=np.uint8)
    prediction = np.where(rng.random(target.shape) < 0.6, target, rng.integers(4, size=(6, 7, 9)))
    target[rng.random(target.shape) < 0.1] = 255
    target[2] = 255
    target[3][target[3] == 1] = 0
    return prediction.astype(np.uint8), target


def count(prediction, target, batch: int = 100, **kwargs) -> ConfusionMatrix:
    confusion = ConfusionMatrix(CLASSES, **kwargs)
    prediction, target = torch.as_tensor(prediction), torch.as_tensor(target)
    for i in range(0, len(target), batch):
        confusion.update(prediction[i : i + batch], target[i : i + batch])
    return confusion


def test_equals_loops_over_pixels(data):
    prediction, target = data
    confusion = count(*data)
    expected = naive_iou(prediction, target)
    assert math.isnan(expected[4])
    assert confusion.per_class_iou.tolist() == pytest.approx(expected, nan_ok=True)
    assert confusion.mean_iou == pytest.approx(np.nanmean(expected))
    counted = target != 255
    assert confusion.pixel_accuracy == pytest.approx((prediction == target)[counted].mean())
    images = [np.nanmean(naive_iou(*pair)) for i, pair in enumerate(zip(*data)) if i != 2]  # noqa: B905
    assert confusion.mean_iou_per_image == pytest.approx(np.mean(images))
    assert confusion.matrix.sum() == counted.sum()
    assert confusion.matrix[0, 3] == ((target == 0) & (prediction == 3)).sum()


@pytest.mark.parametrize("batch", [1, 2, 4, 5])
def test_scores_do_not_depend_on_the_batches(data, batch):
    whole, parts = count(*data), count(*data, batch=batch)
    assert torch.equal(whole.matrix, parts.matrix)
    assert whole.mean_iou_per_image == pytest.approx(parts.mean_iou_per_image, rel=1e-14)
    assert whole.image_count == parts.image_count == 5


@pytest.mark.parametrize("prediction_type", [torch.uint8, torch.int32, torch.int64])
@pytest.mark.parametrize("target_type", [torch.uint8, torch.int16, torch.int64])
def test_any_integers_will_do(data, prediction_type, target_type):
    prediction, target = map(torch.as_tensor, data)
    found = count(prediction.to(prediction_type), target.to(target_type))
    assert torch.equal(found.matrix, count(*data).matrix)


@pytest.mark.parametrize("chunk", [4, 8, 64])
@pytest.mark.parametrize("ignored", [255, 7, 2, -3])
def test_images_are_counted_in_parts(data, monkeypatch, chunk, ignored):
    monkeypatch.setattr(metrics, "CHUNK", chunk)
    prediction, target = (torch.as_tensor(array).long() for array in data)
    target[target == 255] = ignored
    expected = torch.zeros(CLASSES, CLASSES, dtype=torch.int64)
    for t, p in zip(target.flatten().tolist(), prediction.flatten().tolist(), strict=True):
        if t != ignored:
            expected[t, p] += 1
    assert torch.equal(count(prediction, target, ignore_index=ignored).matrix, expected)


def test_a_refused_batch_leaves_the_counts_as_they_were(data):
    confusion = count(*data)
    before = [counts.clone() for counts in confusion.counts]
    prediction, target = map(torch.as_tensor, data)
    with pytest.raises(ValueError, match="target has values from 0 to 9"):
        confusion.update(prediction, target.where(target != 255, 9))
    assert all(map(torch.equal, confusion.counts, before))


def test_scores_are_those_of_the_official_script(tmp_path):
    official = pytest.importorskip(
        "cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling", exc_type=ImportError
    )
    official.args.evalInstLevelScore, official.args.JSONOutput = False, False
    official.args.quiet = True
    cityscapes, rng = load_description("cityscapes"), np.random.default_rng(0)
    ids = np.array([c.id for c in cityscapes.classes], np.uint8)
    confusion, files = ConfusionMatrix(len(ids)), []
    for name in "ab":
        labels = rng.integers(34, size=(20, 30), dtype=np.uint8)
        known = np.isin(labels, ids) & (rng.random(labels.shape) < 0.7)
        predictions = np.where(known, labels, rng.choice(ids, labels.shape))
        files.append([str(tmp_path / f"{name}_{kind}.png") for kind in ("pred", "gt")])
        pairs = (predictions, labels)
        for path, array in zip(files[-1], pairs, strict=True):
            Image.fromarray(array).save(path)
        confusion.update(
            *(torch.from_numpy(cityscapes.to_train_ids(array))[None] for array in pairs)
        )
    found = official.evaluateImgLists(*map(list, zip(*files, strict=True)), official.args)
    expected = [found["classScores"][c.name] for c in cityscapes.classes]
    assert confusion.per_class_iou.tolist() == pytest.approx(expected, abs=1e-12)
    assert confusion.mean_iou == pytest.approx(found["averageScoreClasses"], abs=1e-12)


def test_many_classes_do_not_overflow_small_integers():
    target = torch.arange(200, dtype=torch.uint8).view(1, 10, 20)
    confusion = ConfusionMatrix(200)
    confusion.update(target.flip(2), target)
    assert confusion.matrix.sum() == 200 and confusion.matrix[199, 180] == 1


def test_a_class_that_is_only_predicted_counts_and_an_absent_one_does_not():
    target = torch.zeros(1, 1, 4, dtype=torch.uint8)
    prediction = torch.tensor([[[0, 0, 0, 2]]], dtype=torch.uint8)
    confusion = count(prediction, target)
    assert confusion.per_class_iou[:3].tolist() == pytest.approx([0.75, math.nan, 0], nan_ok=True)
    assert confusion.mean_iou == pytest.approx(0.375)


@pytest.mark.parametrize("not_scored", [[4], [1], [0, 4]])
def test_classes_that_are_not_scored_count_in_the_unions_of_others_only(data, not_scored):
    prediction, target = (array.copy() for array in data)
    prediction[:, :2] = 4  # predicted, and in no target
    confusion = count(prediction, target, not_scored=not_scored)
    expected = np.array(naive_iou(prediction, target))
    expected[not_scored] = math.nan
    assert confusion.per_class_iou.tolist() == pytest.approx(expected.tolist(), nan_ok=True)
    assert confusion.mean_iou == pytest.approx(np.nanmean(expected))
    images = [naive_iou(*pair) for i, pair in enumerate(zip(prediction, target)) if i != 2]  # noqa: B905
    assert confusion.mean_iou_per_image == pytest.approx(
        np.mean([np.nanmean(np.delete(ious, not_scored)) for ious in images])
    )
    assert confusion.pixel_accuracy == count(prediction, target).pixel_accuracy


def test_an_image_without_a_scored_class_is_no_part_of_the_mean_over_images():
    target = torch.tensor([[[0, 0]], [[1, 1]]])
    confusion = count(target, target, not_scored=[1])
    assert confusion.image_count == 1 and confusion.mean_iou_per_image == 1


def test_what_is_predicted_at_ignored_pixels_does_not_matter(data):
    prediction, target = (array.copy() for array in data)
    prediction[target == 255] = 77
    assert torch.equal(count(prediction, target).matrix, count(*data).matrix)


def test_another_ignored_value(data):
    prediction, target = (torch.as_tensor(array).long() for array in data)
    target[target == 255] = -1
    assert torch.equal(count(prediction, target, ignore_index=-1).matrix, count(*data).matrix)


def test_nothing_counted_is_nan_not_an_error():
    for confusion in (
        ConfusionMatrix(CLASSES),
        count(torch.zeros(2, 3, 3).byte(), torch.full((2, 3, 3), 255).byte()),
    ):
        scores = confusion.mean_iou, confusion.pixel_accuracy, confusion.mean_iou_per_image
        assert all(map(math.isnan, scores)) and confusion.matrix.sum() == 0


@pytest.mark.parametrize("name", ["prediction", "target"])
@pytest.mark.parametrize("value", [CLASSES, 254, -1])
def test_values_out_of_range_are_refused(name, value):
    arrays = {"prediction": torch.zeros(1, 2, 2).long(), "target": torch.zeros(1, 2, 2).long()}
    arrays[name][0, 1, 1] = value
    with pytest.raises(ValueError, match=f"{name} has values from .*{value}"):
        count(**arrays)


@pytest.mark.parametrize("shapes", [((1, 2, 3), (1, 3, 2)), ((2, 3), (2, 3)), ((1, 2, 3), (2, 3))])
def test_shapes_that_do_not_fit_are_refused(shapes):
    with pytest.raises(ValueError, match="must both be"):
        count(*(torch.zeros(shape).byte() for shape in shapes))
