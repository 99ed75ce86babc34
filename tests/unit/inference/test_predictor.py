"""Predictions: right classes, sizes and file names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dsrl import load_model
from dsrl.checkpoints.network import load_network
from dsrl.cli.main import main
from dsrl.data.dataset import PreparedSplit
from dsrl.data.manifest import ClassInfo
from dsrl.data.transforms import resize_logits
from dsrl.inference.predictor import Predictor, encode


@pytest.fixture(scope="module")
def predictor(weights) -> Predictor:
    return Predictor(weights, "cpu")


def network_labels(weights: Path, image: np.ndarray, size: tuple[int, int]) -> torch.Tensor:
    """Train ids of the resized logits, uint8 (*size)."""
    network, transform, _ = load_network(weights, torch.device("cpu"))
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None]
    with torch.no_grad():
        logits = network(transform(pixels)).logits.contiguous()
    labels = resize_logits(logits, size).argmax(1).byte()[0]
    assert len(labels.unique()) > 2, "a prediction of one class would prove little"
    return labels


def test_a_predictor_says_what_it_needs_and_returns(predictor, make_weights):
    info = make_weights(3, encoder="test_resnet").info
    assert (predictor.classes, predictor.input_size) == (info.classes, (32, 64))
    logits = predictor.network(torch.zeros(1, 3, 32, 64)).logits
    assert logits.shape == (1, len(info.classes), 64, 128)


@pytest.mark.parametrize("size", [None, (64, 128), (7, 300)])
def test_the_mask_has_the_size_of_the_image_or_the_one_requested(
    weights, predictor, prepared, size
):
    image = PreparedSplit(prepared, "val").images[0][3:44, 5:102]
    mask = predictor.predict(image, size)
    expected = network_labels(weights, image, size or (41, 97))
    assert mask.dtype == np.uint8
    assert np.array_equal(mask, expected.numpy())


def test_cityscapes_format_is_label_ids_at_the_labels_size(weights, prepared, tmp_path):
    main(["predict", "--weights", str(weights), "--data", str(prepared), "--dataset-split", "val",
          "--output", str(tmp_path), "--format", "cityscapes", "--device", "cpu"])  # fmt: skip
    split = PreparedSplit(prepared, "val")
    names = {f"{sample.name}_pred.png" for sample in split.manifest.samples}
    assert {path.name for path in tmp_path.iterdir()} == names
    ids = np.array([c.id for c in split.manifest.classes])
    for image, sample in zip(split.images, split.manifest.samples, strict=True):
        assert len(sample.name.split("_")) == 3, "city, sequence, frame"
        with Image.open(tmp_path / f"{sample.name}_pred.png") as opened:
            found = np.asarray(opened)
        assert found.dtype == np.uint8
        assert found.shape == sample.native_size
        assert np.array_equal(found, ids[network_labels(weights, image, sample.native_size)])


def test_formats_of_the_files():
    classes = [
        ClassInfo(name="road", color=(1, 2, 3), id=7),
        ClassInfo(name="sky", color=(4, 5, 6), id=300),
    ]
    mask = np.array([[0, 1, 1]], np.uint8)
    image = np.full((1, 3, 3), 101, np.uint8)
    assert encode(mask, classes, "train-ids", image) is mask
    assert encode(mask, classes, "color", image).tolist() == [[[1, 2, 3], [4, 5, 6], [4, 5, 6]]]
    half = [[[51, 51, 52], [52, 53, 53], [52, 53, 53]]]
    assert encode(mask, classes, "overlay", image).tolist() == half
    assert encode(mask, classes, "overlay", image[:, :1].repeat(2, 0)).shape == (1, 3, 3)
    ids = encode(mask, classes, "cityscapes", image)
    assert (ids.tolist(), ids.dtype) == ([[7, 300, 300]], np.uint16)


def test_files_folders_and_animations(weights, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (30, 20)).save(folder / "b.png")
    (folder / "notes.txt").write_text("no image")
    frames = [Image.new("RGB", (24, 16), (60 * k, 0, 0)) for k in range(3)]
    video = tmp_path / "video.gif"
    frames[0].save(video, save_all=True, append_images=frames[1:])
    main(["predict", "--weights", str(weights), "--output", str(output), str(folder), str(video)])
    names = ["b.png", "video_000000.png", "video_000001.png", "video_000002.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    with Image.open(output / "b.png") as image:
        assert (image.mode, image.size) == ("RGB", (30, 20))
    with Image.open(output / "video_000002.png") as image:
        assert (image.mode, image.size) == ("RGB", (24, 16))


def test_black_and_white_are_given_by_an_option(dsrl, weights, tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint16)
    grey[0, 0] = 255
    Image.fromarray(grey.astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(grey << 4).save(tmp_path / "b.png")
    call = ("predict", "--weights", weights, "--device", "cpu", "--output", tmp_path / "out")
    code, _, err = dsrl(*call, tmp_path / "b.png")
    assert code == 1 and "b.png: its values are 0 to 4080" in err and "--value-range 0 4095" in err
    given = (*call, "--value-range", 0, 4095, tmp_path)
    assert dsrl(*given)[::2] == (0, "")
    a, b = (Image.open(tmp_path / "out" / name).tobytes() for name in ("a.png", "b.png"))
    assert a == b
    code, _, err = dsrl(*call, "--value-range", 0, 4096, tmp_path)
    assert code == 1 and "out/a.png: exists, and was not made from" in err
    code, _, err = dsrl(*call, "--value-range", 4095, 0, tmp_path)
    assert code == 2 and "argument --value-range: 4095 is not below 0" in err


def test_large_images_are_refused_unless_an_option_allows_them(
    dsrl, weights, tmp_path, monkeypatch, recwarn
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 9000)
    image = tmp_path / "a.png"
    Image.effect_noise((200, 100), 90).save(image)
    for call in (
        ("predict", image, "--output", tmp_path / "out"),
        ("test", "--image-file", image, "--output", tmp_path / "out.png"),
    ):
        call = (*call, "--weights", weights, "--device", "cpu")
        code, _, err = dsrl(*call)
        assert code == 1 and err.count("\n") == 1
        assert "a.png: 20000 pixels are above the limit" in err and "--max-pixels 20000 " in err
        assert dsrl(*call, "--max-pixels", 19998)[0] == 1
        assert dsrl(*call, "--max-pixels", 20000)[::2] == (0, "")
    assert Image.MAX_IMAGE_PIXELS == 9000 and not recwarn.list


def test_images_of_one_value_are_reported_in_one_line(dsrl, weights, tmp_path):
    for name, colour in {"a": "black", "b": "white"}.items():
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{name}.png")
    call = ("predict", "--weights", weights, "--device", "cpu", "--output", tmp_path / "out")
    assert dsrl(*call, tmp_path)[2] == (
        f"note: {tmp_path}/a.png and 1 more: all pixels have the same value\n"
    )


def test_an_interrupted_call_says_how_to_go_on(dsrl, weights, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for number in range(4):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{number}.png")
    line = ("predict", "--weights", weights, "--output", tmp_path / "out", "--device", "cpu")
    original, calls = Predictor.predict, []

    def interrupted(self, *values, **options):
        calls.append(values)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, *values, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict", interrupted)
        code, _, err = dsrl(*line, tmp_path / "images")
    assert code == 130
    assert err.splitlines()[-1].endswith(
        "out: interrupted after 2 predictions; repeat the call to go on"
    )
    code, _, err = dsrl(*line, tmp_path / "images")
    assert code == 0 and "kept predictions that were there: 2" in err
    assert len(list((tmp_path / "out").glob("*.png"))) == 4


def test_probabilities_are_those_of_the_library(dsrl, weights, tmp_path):
    """They are written once, counted like masks, and replaced where they are damaged."""
    rng = np.random.default_rng(0)
    (tmp_path / "images/below").mkdir(parents=True)
    for name in ("a", "below/b"):
        pixels = rng.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{name}.png")
    line = ("predict", "--weights", weights, "--output", tmp_path / "out", "--device", "cpu")
    line = (*line, "--format", "probabilities", "--summary", tmp_path / "s.json")
    assert dsrl(*line, tmp_path / "images")[0] == 0
    model = load_model(weights, "cpu")
    for name in ("a", "below/b"):
        expected = model.predict(tmp_path / f"images/{name}.png", probabilities=True)
        with np.load(tmp_path / f"out/{name}.npz") as found:
            assert np.abs(found["probabilities"] - expected).max() < 1e-3
            assert found["probabilities"].dtype == np.float16
            assert found["classes"].tolist() == [info.name for info in model.classes]
    shares = json.loads((tmp_path / "s.json").read_text())["files"]["a.npz"]
    mask = model.predict(tmp_path / "images/a.png")
    counts = np.bincount(mask.ravel(), minlength=len(model.classes)) / mask.size
    assert [*shares.values()] == pytest.approx(counts.tolist(), abs=0.002)
    path = tmp_path / "out/a.npz"
    content = path.read_bytes()
    _, _, err = dsrl(*line, tmp_path / "images")
    assert "kept predictions that were there: 2" in err
    path.write_bytes(content[:200] + bytes([content[200] ^ 255]) + content[201:])
    assert dsrl(*line, tmp_path / "images")[0] == 0
    assert path.read_bytes() == content
    np.savez(path, other=np.zeros(3))
    code, _, err = dsrl(*line, tmp_path / "images")
    assert code == 1 and "a.npz: exists, and was not made from" in err
