"""`fit: pad` keeps the aspect ratio, and what it adds around an image counts nowhere."""

import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from dsrl import load_model
from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import Weights, WeightsInfo, load_weights, save_weights
from dsrl.config.sections import Augmentation, Fit
from dsrl.config.strict import parse
from dsrl.data.dataset import PreparedSplit, TrainingSet, network_inputs, output_labels
from dsrl.data.description import load_description
from dsrl.data.fit import fitted_box, stored_box
from dsrl.data.manifest import read_manifest
from dsrl.data.preprocess import preprocess
from dsrl.data.transforms import InputTransform, normalise, resize_images
from dsrl.evaluation import ConfusionMatrix
from dsrl.evaluation.evaluate import evaluate
from dsrl.evaluation.reconstruction import mean_psnr
from dsrl.system.files import write_text

CPU = torch.device("cpu")
FRAME = (64, 128)
WINDOWS = {"portrait": (64, 40), "wide": (30, 128)}  # of streets of 64x128


@pytest.fixture(scope="module", params=WINDOWS)
def padded(request, prepared, tmp_path_factory):
    """Train and val of the demo, cut to another aspect ratio, prepared with `fit: pad`."""
    folder, (height, width) = tmp_path_factory.mktemp("padded"), WINDOWS[request.param]
    raw = prepared.parent / "raw"
    for path in raw.rglob("*.png"):
        target = folder / "raw" / path.relative_to(raw)
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as image:
            image.crop((0, 64 - height, width, 64)).save(target)
    for split in ("train", "val"):
        places = folder / "raw", split, FRAME, folder / split
        preprocess(load_description("demo"), *places, jobs=1, fit="pad")
    return folder


@pytest.fixture(scope="module")
def weights(make_weights) -> Weights:
    """Untrained ones, of a network that pads."""
    weights = make_weights(2, encoder="test_resnet")
    return Weights(weights.info.model_copy(update={"fit": "pad"}), weights.layers)


def all_of(split: PreparedSplit) -> tuple[range, torch.Tensor, torch.Tensor]:
    """Indices, images (B, 3, H, W) and labels of a split."""
    images = torch.from_numpy(split.images.copy()).permute(0, 3, 1, 2)
    return range(len(split)), images, torch.from_numpy(split.labels.copy())


@pytest.mark.parametrize("size", [(64, 40), (30, 128), (7, 900), (500, 3), (31, 64), (1, 1)])
@pytest.mark.parametrize("frame", [(32, 64), (96, 128), (7, 5)])
def test_an_image_is_as_large_as_it_can_be_and_in_the_middle(size, frame):
    box = fitted_box(size, frame, "pad")
    scale = min(frame[0] / size[0], frame[1] / size[1])
    for length, side, whole in zip((box.height, box.width), size, frame, strict=True):
        assert abs(length - side * scale) <= 0.5 or length == 1
        assert length <= whole
    for start, length, whole in ((box.top, box.height, frame[0]), (box.left, box.width, frame[1])):
        assert 0 <= whole - 2 * start - length <= 1
    assert fitted_box(size, frame, "stretch") == (0, 0, *frame)
    doubled = (2 * frame[0], 2 * frame[1])
    assert stored_box(size, doubled, "pad") == tuple(2 * value for value in box)


def test_padding_is_stored_as_such_and_counts_in_no_statistic(padded):
    split = PreparedSplit(padded, "train")
    inside = np.zeros(split.labels.shape, bool)
    for index in range(len(split)):
        inside[index][split.box(index).window] = True
    assert 0.2 < inside.mean() < 0.7
    assert (split.labels[~inside] == 255).all() and not split.images[~inside].any()
    assert split.manifest.fit == "pad"
    pixels = split.images[inside] / 255
    assert split.manifest.mean == pytest.approx(pixels.mean(0))
    assert split.manifest.std == pytest.approx(pixels.std(0))
    counts = np.bincount(split.labels[inside], minlength=256)
    assert list(split.manifest.class_pixels) == counts[: len(split.manifest.classes)].tolist()


@pytest.mark.parametrize("changes", [{}, {"scale": (0.5, 2)}, {"rotation": 30, "flip": 1}])
def test_padding_is_not_inside_a_training_sample(padded, changes):
    """Whatever the augmentation: with white images, what is inside is white."""
    split = PreparedSplit(padded, "train")
    split.images = np.full_like(split.images, 255)
    quiet = {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "scale": (1, 1), "flip": 0}
    samples = TrainingSet(split, FRAME, Augmentation(**{**quiet, **changes}), seed=0)
    fill = np.array([round(255 * mean) for mean in split.manifest.mean])
    for index in range(len(split)):
        sample = samples[0, index]
        target, inside = sample.target.permute(1, 2, 0).numpy(), sample.inside.numpy()
        assert 0 < inside.mean() < 1
        assert (sample.labels.numpy()[~inside] == 255).all()
        white, filled = (target == 255).all(-1), (target == fill).all(-1)
        # Resizing and rotating blend both at the border.
        allowed = 0.15 if changes else 0
        assert np.mean(white != inside) <= allowed and np.mean(filled == inside) <= allowed


def test_an_input_is_the_resized_image_and_zero_around_it():
    images = torch.randint(256, (2, 3, 90, 60), dtype=torch.uint8)
    mean, std = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.2, 0.2, 0.3])
    found = InputTransform((32, 64), mean, std, "pad")(images)
    box = fitted_box((90, 60), (32, 64), "pad")
    expected = torch.zeros(2, 3, 32, 64)
    resized = resize_images(images.float(), (box.height, box.width))
    expected[(..., *box.window)] = normalise(resized, mean, std)
    torch.testing.assert_close(found, expected)


def test_scores_are_those_of_what_the_network_says_inside(padded, weights):
    split, network = PreparedSplit(padded, "val"), build_network(weights, "test", 2)
    transform, confusion = weights.info.transform, ConfusionMatrix(len(weights.info.classes))
    indices, images, labels = all_of(split)
    with torch.no_grad():
        found = network(network_inputs(split, indices, images, transform)).logits.argmax(1)
    confusion.update(found, labels.long())
    scores = evaluate(network, split, transform, CPU, batch_size=len(split))
    assert scores.confusion == confusion.matrix.tolist()
    assert sum(scores.class_pixels) == (split.labels != 255).sum()


@pytest.mark.parametrize("size", [FRAME, (90, 170)])
@pytest.mark.parametrize("network_fit", get_args(Fit))
@pytest.mark.parametrize("data_fit", get_args(Fit))
def test_predictions_of_a_split_are_what_is_scored(
    padded, weights, dsrl, tmp_path, network_fit, data_fit, size
):
    """Also where the data are stored in another way, or at another size, than the network needs."""
    if (data_fit, size) != ("pad", FRAME):
        places = padded / "raw", "val", size, tmp_path / "data/val"
        preprocess(load_description("demo"), *places, jobs=1, fit=data_fit)
    data = padded if (data_fit, size) == ("pad", FRAME) else tmp_path / "data"
    info = weights.info.model_copy(update={"fit": network_fit})
    save_weights(tmp_path / "a.weights", Weights(info, weights.layers))
    line = ("predict", "--weights", tmp_path / "a.weights", "--data", data, "--device", "cpu")
    code, _, err = dsrl(*line, "--output", tmp_path / "masks", "--format", "train-ids")
    assert code == 0, err
    split, model = PreparedSplit(data, "val"), load_model(tmp_path / "a.weights", "cpu")
    masks = []
    for index, sample in enumerate(split.manifest.samples):
        masks.append(np.array(Image.open(tmp_path / f"masks/{sample.name}.png")))
        image, size = split.images[index][split.box(index).window], sample.native_size
        assert np.array_equal(masks[-1], model.predict(image, size, native_size=size))
    split._native = np.concatenate([mask.ravel() for mask in masks])
    assert len(np.unique(split._native)) > 1
    scores = evaluate(model.network, split, info.transform, CPU, native=True, batch_size=1)
    assert scores.mean_iou_native == 1


def test_what_is_stored_in_the_padding_changes_nothing(padded, weights):
    """No score, no training sample."""
    network, transform = build_network(weights, "test", 2), weights.info.transform
    found = []
    for seed in (None, 0):
        split = PreparedSplit(padded, "val")
        if seed is not None:
            images = np.random.default_rng(seed).integers(0, 256, split.images.shape, np.uint8)
            for index in range(len(split)):
                window = (index, *split.box(index).window)
                images[window] = split.images[window]
            split.images = images
        scores = evaluate(network, split, transform, CPU, native=True)
        samples = TrainingSet(split, FRAME, Augmentation(rotation=20), seed=0)
        quality = mean_psnr(network, split, transform, CPU)
        found.append((scores, quality, [samples[0, index] for index in range(len(split))]))
    (scores, quality, samples), (other_scores, other_quality, other_samples) = found
    assert repr((scores, quality)) == repr((other_scores, other_quality))  # NaN is not NaN
    for sample, other in zip(samples, other_samples, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(sample, other, strict=True))


def test_stored_labels_are_scored_as_they_are(padded, weights):
    split = PreparedSplit(padded, "val")
    indices, _, labels = all_of(split)
    assert torch.equal(output_labels(split, indices, labels, weights.info.transform), labels)


def test_either_network_scores_either_data(padded, prepared, weights):
    """A network that stretches sees no padding that is stored, and the other way round."""
    split, other = PreparedSplit(padded, "val"), PreparedSplit(prepared, "val")
    padding = weights.info.transform
    stretching = replace(padding, fit="stretch")
    indices, images, labels = all_of(split)
    inputs = network_inputs(split, indices, images, stretching)
    rows, columns = split.box(0).window
    torch.testing.assert_close(inputs[:1], stretching(images[:1, :, rows, columns]))
    assert (output_labels(split, indices, labels, stretching) != 255).all()
    indices, images, labels = all_of(other)  # of the aspect ratio of the input
    torch.testing.assert_close(network_inputs(other, indices, images, padding), stretching(images))
    assert torch.equal(output_labels(other, indices, labels, padding), labels)


def test_psnr_is_that_of_the_image_without_padding(padded, weights):
    split, transform = PreparedSplit(padded, "val"), weights.info.transform
    found = mean_psnr(build_network(weights, "test", 2), split, transform, CPU)
    expected = []
    for index, image in zip(*all_of(split)[:2], strict=True):
        rows, columns = split.box(index).window
        size = split.manifest.samples[index].native_size
        small = transform(image[None, :, rows, columns], size)
        large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        mean, std = (x[:, None, None] for x in (transform.mean, transform.std))
        large = large[(..., *transform.box(size, 2).window)] * std + mean
        error = (large.clamp(0, 1) - image[:, rows, columns] / 255).square().mean()
        expected.append(-10 * error.log10())
    assert found["psnr_bilinear"] == pytest.approx(float(torch.stack(expected).mean()), abs=1e-3)


def test_a_frame_without_an_input_is_refused(padded, dsrl, tmp_path):
    line = ("preprocess", "--dataset", "demo", "--raw", padded / "raw", "--dataset-split", "val")
    code, _, err = dsrl(*line, "--size", 1, 1, "--fit", "pad", "--output", tmp_path / "out")
    assert code == 1 and "size 1 1: expected at least 2 2 with fit 'pad'" in err, err
    assert not (tmp_path / "out").exists()


def test_data_prepared_otherwise_are_refused(padded, prepared, dsrl, tmp_path, tiny_settings):
    for data, fit, other in ((padded, "stretch", "pad"), (prepared, "pad", "stretch")):
        config = tiny_settings(fit=fit).model_dump_json()
        line = ("train", "--stage", 1, "--data", data, "--config", config)
        code, _, err = dsrl(*line, "--output", tmp_path / "out")
        assert code == 1 and err.count("\n") == 1, err
        assert f"prepared with fit '{other}', but data.fit is '{fit}'; prepare the split" in err


def test_data_prepared_otherwise_are_not_replaced(padded):
    before = (padded / "val/manifest.json").read_bytes()
    places = padded / "raw", "val", FRAME, padded / "val"
    with pytest.raises(FileExistsError, match=r"at 64x128 with fit 'pad'; choose another --output"):
        preprocess(load_description("demo"), *places, jobs=1)
    assert (padded / "val/manifest.json").read_bytes() == before


def test_a_training_keeps_it_in_its_weights_and_validates_alike(
    padded, dsrl, tmp_path, tiny_settings
):
    config = tiny_settings(fit="pad", epochs=1).model_dump_json()
    line = ("train", "--stage", 1, "--data", padded, "--config", config)
    assert dsrl(*line, "--output", tmp_path / "stage1")[0] == 0
    weights = load_weights(tmp_path / "stage1/final.weights")
    assert weights.info.fit == "pad" and weights.info.provenance["recipe"]["fit"] == "pad"
    split, network = PreparedSplit(padded, "val"), build_network(weights, "test")
    scores = evaluate(network, split, weights.info.transform, CPU)
    assert scores.cross_entropy == pytest.approx(weights.info.scores["cross_entropy"], rel=1e-4)
    stretching = replace(weights.info.transform, fit="stretch")
    other = evaluate(network, split, stretching, CPU).cross_entropy
    assert other != pytest.approx(scores.cross_entropy, rel=1e-4), "which would prove nothing"


def test_files_of_earlier_versions_stretch(prepared, make_weights, tmp_path, tiny_settings):
    """They do not say how images become the input."""
    manifest = json.loads((prepared / "val/manifest.json").read_text())
    assert manifest.pop("fit") == "stretch"
    write_text(tmp_path / "manifest.json", json.dumps(manifest))
    assert read_manifest(tmp_path).fit == "stretch"
    info = make_weights(1, encoder="test_resnet").info.model_dump(mode="json")
    assert info.pop("fit") == "stretch"
    assert parse(WeightsInfo, info, "a file").fit == "stretch"
    assert "fit" not in tiny_settings().recipe(1).model_dump()


def test_stretched_images_are_resized_and_nothing_else():
    images = torch.randint(256, (2, 3, 90, 60), dtype=torch.uint8)
    mean, std = torch.tensor([0.3, 0.4, 0.5]), torch.tensor([0.2, 0.2, 0.3])
    found = InputTransform((32, 64), mean, std)(images)
    assert torch.equal(found, normalise(resize_images(images.float(), (32, 64)), mean, std))
