"""Published networks become weights: what they predict, and what their files say about them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from edgenets import dsrl_layers, imagenet_layers, segmentation_layers
from PIL import Image

from dsrl.checkpoints.network import build_network, load_network
from dsrl.checkpoints.published import import_weights
from dsrl.checkpoints.weights import load_weights
from dsrl.data.description import load_description
from dsrl.models.dsrl import DSRL

ROOT = Path(__file__).parents[3]
PUBLISHED = Path(os.environ.get("DSRL_ESPNETV2", ROOT / "data" / "espnetv2"))
SMALLEST = PUBLISHED / "espnetv2_s_0.5_city_512x256.pth"
REFERENCE = PUBLISHED / "espnetv2_s_0.5_reference.npz"


def class_maps(network: DSRL, images: torch.Tensor) -> torch.Tensor:
    """(1, 3, H, W) -> (1, C, H/2, W/2), before what brings them to the output size."""
    with torch.no_grad():
        return network.sssr_head.classifier(network.sssr_decoder(*network.encoder(images)))


def saved(path: Path, layers: object) -> Path:
    torch.save(layers, path)
    return path


@pytest.mark.skipif(
    not REFERENCE.is_file(), reason=f"{REFERENCE} is not there; DSRL_ESPNETV2 may name its folder"
)
def test_the_authors_network_predicts_what_it_does_in_their_code(dsrl, tmp_path):
    reference = np.load(REFERENCE)
    weights, image = tmp_path / "x.weights", tmp_path / "x.png"
    Image.fromarray(reference["image"]).save(image)
    size = ("--input-size", 128, 256)
    assert dsrl("import-weights", "--source", SMALLEST, "--output", weights, *size)[0] == 0
    network, transform, _ = load_network(weights, torch.device("cpu"))
    network.to(memory_format=torch.contiguous_format)  # that of their code: sums in the same order
    pixels = torch.from_numpy(reference["image"]).permute(2, 0, 1)[None]
    expected = torch.from_numpy(reference["class_maps"])
    torch.testing.assert_close(
        class_maps(network, transform(pixels)), expected, rtol=1e-5, atol=1e-5
    )

    call = ("predict", "--weights", weights, "--format", "train-ids", "--size", 256, 512)
    assert dsrl(*call, "--output", tmp_path / "new", image)[0] == 0
    predicted = np.asarray(Image.open(tmp_path / "new/x.png"))
    assert predicted.shape == (256, 512)
    assert (predicted == reference["argmax"]).mean() >= 0.9999


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("espnetv2_s_*_*.pth")), ids=lambda p: p.stem)
def test_published_files_are_imported(path):
    _, _, scale, dataset, size = path.stem.split("_")
    info = import_weights(path).info
    assert info.model.width_scale == float(scale)
    assert info.dataset == {"city": "cityscapes", "pascal": "voc"}[dataset]
    assert f"{info.input_size[1]}x{info.input_size[0]}" == size


def test_a_network_for_cityscapes_has_one_class_more(tmp_path):
    weights = import_weights(saved(tmp_path / "a.pth", segmentation_layers(0.5)))
    info, known = weights.info, load_description("cityscapes").classes
    assert info.dataset == "cityscapes" and info.classes[:19] == known
    extra = info.classes[19]
    assert (extra.name, extra.id, extra.color) == ("unlabeled", 0, (0, 0, 0))
    assert (info.mean, info.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (info.model.upsampler, info.stage, info.layers) == ("none", 1, "inference")
    assert info.provenance == {} and info.description == "imported from a.pth"


def test_a_network_for_voc_has_its_classes(tmp_path):
    info = import_weights(saved(tmp_path / "a.pth", segmentation_layers(1.25, classes=21))).info
    assert (info.dataset, info.model.width_scale) == ("voc", 1.25)
    assert info.classes == load_description("voc").classes


def test_the_official_dsrl_ends_in_two_transposed_convolutions(tmp_path):
    """There is no such file to try: its names and shapes are those of the public code."""
    layers = dsrl_layers()
    weights = import_weights(saved(tmp_path / "espnetv2_2.0_1024_best.pth", layers))
    assert weights.info.input_size == (256, 512) and weights.info.model.upsampler == "transposed"
    network = build_network(weights, "test")
    images = torch.randn(1, 3, 32, 64)
    expected = class_maps(network, images)
    for k in (5, 6):
        kernel, slope = (layers[f"bu_dec_l{k}.{part}.weight"] for part in (0, 2))
        statistics = ("running_mean", "running_var", "weight", "bias")
        norm = [layers[f"bu_dec_l{k}.1.{name}"] for name in statistics]
        expected = F.conv_transpose2d(expected, kernel, stride=2, padding=1, output_padding=1)
        expected = F.prelu(F.batch_norm(expected, *norm), slope)
    with torch.no_grad():
        logits = network(images).logits
    assert logits.shape == (1, 20, 64, 128)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(
    ("name", "layers", "expected"),
    [
        ("espnetv2_s_2.0_city_1024x512.pth", segmentation_layers(), (512, 1024)),
        ("espnetv2_2.0_512_best.pth", segmentation_layers(), (256, 512)),  # retrained: no output
        ("espnetv2_2.0_2048_best.pth", dsrl_layers(), (512, 1024)),
        ("espnetv2_0x0.pth", segmentation_layers(), (256, 512)),
        ("model.pth", segmentation_layers(), (256, 512)),
    ],
)
def test_the_name_says_the_size_of_the_input(tmp_path, name, layers, expected):
    path = saved(tmp_path / name, layers)
    assert import_weights(path).info.input_size == expected
    assert import_weights(path, (64, 96)).info.input_size == (64, 96)


def test_commands_take_the_weights(dsrl, tmp_path, monkeypatch):
    """Where a network predicts no class, predictions say "unlabeled", as the authors' do."""
    monkeypatch.chdir(tmp_path)
    layers = segmentation_layers()
    layers["bu_dec_l4.merge_layer.3.bias"][19] = 1e6
    saved(Path("city_64x32.pth"), layers)
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(noise).save("x.png")
    code, out, err = dsrl("import-weights", "--source", "city_64x32.pth", "--output", "a.weights")
    assert (code, err) == (0, "")
    assert out == (
        "a.weights: espnetv2, s = 0.5, upsampler none, 20 classes (cityscapes), input 32x64\n"
    )
    for file_format, name, value in (
        ("train-ids", "x.png", 19),
        ("color", "x.png", 0),
        ("cityscapes", "x_pred.png", 0),
    ):
        call = ("predict", "--weights", "a.weights", "--output", file_format, "x.png")
        assert dsrl(*call, "--format", file_format, "--size", 10, 40)[0] == 0
        mask = np.asarray(Image.open(Path(file_format, name)))
        assert mask.shape[:2] == (10, 40) and (mask == value).all()
    for call in (
        "test --weights a.weights --image-file x.png",
        "prune-weights --src-weights a.weights --dest-weights b.weights",
        "inspect-checkpoint --checkpoint a.weights",
        "print-model --weights a.weights",
    ):
        assert dsrl(*call.split())[0] == 0
    assert load_weights(Path("b.weights")).info == load_weights(Path("a.weights")).info


def without(name: str) -> dict[str, torch.Tensor]:
    return {key: layer for key, layer in segmentation_layers().items() if key != name}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"epoch": 3}, "not a state dict"),
        ({3: torch.zeros(1)}, "not a state dict"),
        ([torch.zeros(1)], "contains a list"),
        ({}, "only a part of a network"),
        (imagenet_layers(), "only a part of a network, such as an ImageNet model"),
        ({"conv1.weight": torch.zeros(1)}, "layer 'conv1.weight' is not one of EdgeNets' ESPNetv2"),
        (without("bu_dec_l4.merge_layer.3.bias"), "only a part of a network"),
        (without("bu_br_l2.1.weight"), "layer 'sssr_decoder.activations.0.1.weight' is missing"),
        (segmentation_layers(classes=7), r"7 classes; expected 20 \(cityscapes\) or 21 \(voc\)"),
        (segmentation_layers() | {"bu_br_l2.1.weight": torch.zeros(3)}, r"has shape \(3,\)"),
        (
            segmentation_layers() | {"base_net.level2_0.act.weight": torch.zeros(20)},
            "width_scale: input should be a multiple of 0.25, got 0.3125",
        ),
    ],
)
def test_what_is_no_such_network_is_refused(dsrl, tmp_path, content, reason):
    path, output = saved(tmp_path / "a.pth", content), tmp_path / "a.weights"
    code, out, err = dsrl("import-weights", "--source", path, "--output", output)
    assert (code, out, err.count("\n")) == (1, "", 1) and not output.exists()
    with pytest.raises(ValueError, match=f"{path}: .*{reason}"):
        import_weights(path)


def test_a_file_of_another_kind_is_told_what_is_expected(tmp_path):
    (tmp_path / "a.pth").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"a\.pth: cannot be loaded.*EdgeNets.*official DSRL$"):
        import_weights(tmp_path / "a.pth")
