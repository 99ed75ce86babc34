"""Exported networks give the labels of `dsrl predict`, without this project."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dsrl.checkpoints.weights import Weights, save_weights
from dsrl.inference import export as module_of_export
from dsrl.inference.predictor import Predictor

ROOT = Path(__file__).parents[3]
SIZES = [(1, 1, 1), (1, 32, 64), (3, 64, 128), (2, 41, 97)]  # N, H, W; input and output size, too


@pytest.fixture(scope="module")
def onnx_file(weights, tmp_path_factory) -> Path:
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    module_of_export.export(weights, path)
    return path


def check_labels(run, weights: Path) -> None:
    predictor, rng = Predictor(weights, "cpu"), np.random.default_rng(0)
    for n, height, width in SIZES:
        images = rng.integers(0, 256, (n, height, width, 3), np.uint8)
        labels = run(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        assert labels.shape == (n, height, width) and labels.dtype == np.uint8
        assert np.mean(labels == predictor.predict(images)) > 0.995
    assert len(np.unique(labels)) > 2


def test_pt2(weights, dsrl, tmp_path):
    path = tmp_path / "network.pt2"
    code, out, err = dsrl("export", "--weights", weights, "--output", path)
    assert (code, err) == (0, "")
    assert re.search(r"verified: (99|100)\.\d+% of the labels of a drawn street of 96x192", out)
    info = {"info.json": ""}
    module = torch.export.load(path, extra_files=info).module()
    assert json.loads(info["info.json"])["input_size"] == [32, 64]
    check_labels(lambda images: module(torch.from_numpy(images)).numpy(), weights)


def test_onnx(weights, onnx_file):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx_file)
    check_labels(lambda images: session.run(["labels"], {"image": images})[0], weights)
    (image,), (labels,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["N", 3, "H", "W"])
    assert (labels.name, labels.type, labels.shape) == ("labels", "tensor(uint8)", ["N", "H", "W"])
    texts = session.get_modelmeta().custom_metadata_map
    info = Predictor(weights, "cpu").info
    classes = [(c["name"], tuple(c["color"])) for c in json.loads(texts["classes"])]
    assert classes == [(c.name, c.color) for c in info.classes]
    assert json.loads(texts["input_size"]) == [32, 64] and texts["dataset"] == info.dataset


@pytest.mark.parametrize("suffix", ["onnx", "pt2"])
def test_padding_is_inside_the_exported_network(make_weights, tmp_path, suffix):
    """For images of any aspect ratio, portrait and 3:1 among them."""
    weights = make_weights(1, encoder="test_resnet")
    info = weights.info.model_copy(update={"fit": "pad"})
    save_weights(tmp_path / "a.weights", Weights(info, weights.layers))
    path = tmp_path / f"a.{suffix}"
    lines = module_of_export.export(tmp_path / "a.weights", path)
    assert "labels of a drawn street of 96x64 are" in lines[-1]
    load = module_of_export._runtime if suffix == "onnx" else module_of_export._module
    run, predictor = load(path), Predictor(tmp_path / "a.weights", "cpu")
    rng = np.random.default_rng(0)
    for n, height, width in (*SIZES, (1, 90, 60), (2, 40, 120), (1, 33, 32), (1, 200, 20)):
        images = rng.integers(0, 256, (n, height, width, 3), np.uint8)
        labels = run(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
        assert np.mean(labels == predictor.predict(images)) > 0.995


@pytest.mark.parametrize(
    "model",
    [
        {"encoder": "test_resnet"},
        pytest.param({"network": "espnetv2", "width_scale": 0.5}, marks=pytest.mark.slow),
        pytest.param({"upsampler": "pixel_shuffle"}, marks=pytest.mark.slow),
        pytest.param({"upsampler": "transposed"}, marks=pytest.mark.slow),
    ],
    ids=lambda model: next(iter(model.values())),
)
def test_onnx_is_compared_on_a_given_image(make_weights, dsrl, tmp_path, model):
    pytest.importorskip("onnxruntime")
    weights = tmp_path / "a.weights"
    save_weights(weights, make_weights(1, **model))
    Image.effect_noise((60, 40), 90).save(tmp_path / "image.png")
    call = ("export", "--weights", weights, "--output", tmp_path / "model.onnx")
    code, out, err = dsrl(*call, "--image-file", tmp_path / "image.png")
    assert (code, err) == (0, "")
    assert "input: image, uint8 RGB (N, 3, H, W), any N, H and W; the network sees 32x64\n" in out
    assert "output: labels, uint8 (N, H, W), train ids\n" in out
    assert "% of the labels of a given image of 40x60 are those of `dsrl predict`\n" in out


def test_the_example_in_the_docs_runs_without_dsrl_and_torch(weights, onnx_file, tmp_path):
    page = (ROOT / "docs/commands.md").read_text()
    (code,) = re.findall("```python\n(.*?InferenceSession.*?)```", page, re.DOTALL)
    image = np.random.default_rng(0).integers(0, 256, (41, 97, 3), np.uint8)
    Image.fromarray(image).save(tmp_path / "street.png")
    (tmp_path / "model.onnx").write_bytes(onnx_file.read_bytes())
    code += "\nimport sys\nassert not {'torch', 'dsrl'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\w+: \d+\.\d%$", done.stdout, re.MULTILINE)
    predictor = Predictor(weights, "cpu")
    colours = np.array([c.color for c in predictor.classes])[predictor.predict(image)]
    found = np.asarray(Image.open(tmp_path / "prediction.png"))
    assert np.mean(found == colours) > 0.995


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_one_line(weights, dsrl, tmp_path, monkeypatch, missing):
    monkeypatch.setattr(module_of_export, "find_spec", lambda name: name != missing or None)
    code, out, err = dsrl("export", "--weights", weights, "--output", tmp_path / "model.onnx")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "model.onnx: writing ONNX needs onnx and onnxscript" in err and "pip install" in err
    assert not list(tmp_path.iterdir())


def test_without_onnxruntime_the_file_is_written_and_not_verified(weights, tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    lines = module_of_export.export(weights, tmp_path / "model.onnx")
    assert "not verified" in lines[-1] and (tmp_path / "model.onnx").exists()


def test_a_file_that_predicts_something_else_is_not_written(weights, tmp_path, monkeypatch):
    wrong = lambda path: lambda image: np.full((1, 96, 192), 77, np.uint8)  # noqa: E731
    monkeypatch.setattr(module_of_export, "_module", wrong)
    with pytest.raises(ValueError, match=r"a\.pt2: not written, as only 0\.00% of the labels"):
        module_of_export.export(weights, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
