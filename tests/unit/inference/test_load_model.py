"""`dsrl.load_model`: the predictions of `dsrl predict`, from Python."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dsrl import load_model
from dsrl.inference.predictor import Predictor


@pytest.fixture(scope="module")
def model(weights) -> Predictor:
    return load_model(str(weights), device="cpu")


@pytest.fixture
def pixels(prepared) -> np.ndarray:
    return np.load(prepared / "val/images.npy", mmap_mode="r")[0, 3:44, 5:102]


def test_dsrl_alone_imports_no_torch():
    code = "import sys, dsrl; dsrl.load_model; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_model_says_what_it_is(model, make_weights):
    assert model.classes == make_weights(3).info.classes
    assert model.input_size == (32, 64)
    assert model.network(torch.zeros(2, 3, 32, 64)).logits.shape == (2, len(model.classes), 64, 128)


def test_arrays_paths_and_pil_images_give_what_predict_writes(
    model, weights, dsrl, pixels, tmp_path
):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    call = ("predict", "--weights", weights, "--device", "cpu", "--output", tmp_path / "out")
    assert dsrl(*call, "--format", "train-ids", path)[0] == 0
    written = np.asarray(Image.open(tmp_path / "out/a.png"))
    for image in (pixels, path, str(path), Image.open(path), Image.fromarray(pixels)):
        mask = model.predict(image)
        assert mask.dtype == np.uint8
        assert np.array_equal(mask, written)
    assert len(np.unique(written)) > 2


def test_batches(model, pixels):
    small = Image.fromarray(pixels[:30, :20])
    big, one = model.predict([pixels, small])
    assert big.shape == pixels.shape[:2] and one.shape == (30, 20)
    assert np.mean(big == model.predict(pixels)) > 0.999  # sums may be rounded another way
    many = np.stack([pixels] * 9)
    masks = model.predict(many)
    assert masks.shape == (9, 41, 97) and masks.dtype == np.uint8
    assert np.mean(masks == big) > 0.999
    assert model.predict([]) == []
    assert model.predict(many, probabilities=True).shape == (9, len(model.classes), 41, 97)


def test_probabilities_are_those_of_the_mask(model, pixels):
    shares = model.predict(pixels, probabilities=True)
    assert shares.shape == (len(model.classes), 41, 97) and shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-5)
    assert np.mean(shares.argmax(0) == model.predict(pixels)) > 0.999


def test_pil_images_are_turned_upright(model, pixels):
    image = Image.fromarray(pixels)
    image.getexif()[0x0112] = 6
    assert model.predict(image).shape == (97, 41)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3)), r"image: expected uint8 \(h, w, 3\), RGB in 0..255, got float64"),
        (np.zeros((3, 4, 4), np.uint8), r"got uint8 \(3, 4, 4\); convert it"),
        (np.zeros((0, 4, 3), np.uint8), "image: expected uint8"),
        (Image.new("I;16", (4, 4)), "image: a PIL image of mode I;16 has more than 8 bits"),
        (["absent.png"], "absent.png: no such file"),
        ([torch.zeros(3)], "image 0: expected a uint8 array .* got Tensor"),
        (7, "image: .* got int"),
    ],
)
def test_other_images_are_refused_in_one_line(model, image, message):
    with pytest.raises((ValueError, OSError), match=message):
        model.predict(image)


def test_other_files_are_refused_in_one_line(tmp_path, weights):
    with pytest.raises(OSError, match="no such file"):
        load_model(tmp_path / "absent.weights")
    with pytest.raises(ValueError, match=r"^device: expected auto, cpu, gpu or cuda, got 'tpu'$"):
        load_model(weights, device="tpu")
