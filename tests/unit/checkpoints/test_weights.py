"""Weights files: complete, loaded without running anything, and refused where they do not fit."""

import hashlib
import random

import pytest
import torch

from dsrl.checkpoints.format import write
from dsrl.checkpoints.network import build_network, load_layers, load_network
from dsrl.checkpoints.weights import Weights, load_weights, prune, save_weights
from dsrl.config.model import Model
from dsrl.models.dsrl import DSRL


def refused(path, error=ValueError) -> str:
    with pytest.raises(error) as caught:
        load_weights(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def same_layers(first, second) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(first[k], second[k]) and first[k].dtype == second[k].dtype for k in first
    )


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_round_trip(make_weights, tmp_path, stage):
    weights = make_weights(stage)
    save_weights(tmp_path / "new" / "w.weights", weights)
    found = load_weights(tmp_path / "new" / "w.weights")
    assert found.info == weights.info
    assert same_layers(found.layers, weights.layers)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["w.weights"]
    transform = found.info.transform
    assert transform.input_size == (32, 64) and transform.mean.tolist() == pytest.approx(
        weights.info.mean
    )


def test_what_is_not_a_pytorch_file_is_refused(tmp_path):
    path = tmp_path / "w.weights"
    generator = random.Random(0)
    texts = [b"hello", b"kind: weights\n", b"\x80\x02}", b"PK\x03\x04", b"\x89PNG\r\n\x1a\n"]
    for content in texts + [generator.randbytes(generator.randint(1, 60)) for _ in range(300)]:
        path.write_bytes(content)
        refused(path)


def test_a_missing_file_is_named(tmp_path):
    assert "no such file" in refused(tmp_path / "w.weights", FileNotFoundError)


@pytest.mark.parametrize("content", [{"kind": "other"}, {}, {"state_dict": {}}])
def test_another_kind_of_file_is_refused(tmp_path, content):
    write(tmp_path / "w.weights", content)
    told = refused(tmp_path / "w.weights")
    assert "not a weights or checkpoint file" in told and "`dsrl import-weights`" in told


def test_another_version_is_refused(make_weights, tmp_path):
    path = tmp_path / "w.weights"
    info = make_weights(1).info.model_dump(mode="json")
    write(path, {**info, "kind": "weights", "format": 9})
    assert "a weights file of format 9, but this version reads format 1" in refused(path)


def test_a_checkpoint_of_the_first_format_is_refused_with_the_way_out(tmp_path):
    path = tmp_path / "epoch1.checkpoint"
    write(path, {"kind": "checkpoint", "format": 1, "info": {}, "settings": {}, "network": {}})
    assert "use the version that wrote it, or remove it and train again" in refused(path)


# What version 0.1.0 wrote before there was a recipe: the model section and, as a fingerprint, the
# names and shapes of the layers of its stage 3.
FIRST_MODEL = {
    "network": "deeplabv3plus",
    "encoder": "mobilenetv3_small_050",
    "pretrained": False,
    "output_stride": 16,
    "upsampler": "bilinear",
    "decoder_channels": 16,
    "width_scale": 2.0,
}
FIRST_LAYERS = "ddadebe3b0e09a968f736c98f16e901f19d34c1d052a3e5c840759960d35c627"


def test_weights_of_the_first_format_are_read(make_weights, tmp_path):
    weights = make_weights(3)
    layers = (f"{name} {tuple(layer.shape)}" for name, layer in sorted(weights.layers.items()))
    assert hashlib.sha256("\n".join(layers).encode()).hexdigest() == FIRST_LAYERS
    content = {
        "kind": "weights",
        "format": 1,
        "stage": 3,
        "layers": "all",
        "model": FIRST_MODEL,
        "classes": [{"name": c.name, "color": c.color, "id": c.id} for c in weights.info.classes],
        "dataset": "demo",
        "mean": list(weights.info.mean),
        "std": list(weights.info.std),
        "input_size": [32, 64],
        "epoch": 1,
        "scores": {},
        "experiment_id": "e",
        "description": "text",
        "state_dict": dict(weights.layers),
    }
    write(tmp_path / "w.weights", content)
    found = load_weights(tmp_path / "w.weights").info
    texts = {"experiment_id": "e", "description": "text"}
    assert found == weights.info.model_copy(update=texts)


def test_a_bare_tensor_is_refused(tmp_path):
    torch.save(torch.zeros(3), tmp_path / "w.weights")
    assert "contains a Tensor, not a dictionary" in refused(tmp_path / "w.weights")


def test_what_the_file_says_of_itself_is_checked(make_weights, tmp_path):
    info = make_weights(1).info.model_dump(mode="json")
    head = {"kind": "weights", "format": 1}
    write(tmp_path / "w.weights", {**head, **info, "stage": 4, "state_dict": {}})
    assert "stage" in refused(tmp_path / "w.weights")


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_pruning_keeps_exactly_the_layers_of_stage_1(make_weights, stage):
    weights = make_weights(stage)
    pruned = prune(weights, "test")
    names = make_weights(1).layers.keys()
    assert pruned.layers.keys() == names
    assert same_layers(dict(pruned.layers), {name: weights.layers[name] for name in names})
    assert pruned.info.layers == "inference" and pruned.info.stage == stage
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(
            build_network(pruned, "test")(images).logits,
            build_network(weights, "test", stage)(images).logits,
        )
    assert same_layers(dict(prune(pruned, "test").layers), dict(pruned.layers))


@pytest.mark.parametrize("stage", [2, 3])
def test_a_stage_takes_over_the_layers_of_the_one_before_and_no_others(make_weights, stage):
    before = make_weights(stage - 1, seed=1)
    fresh = make_weights(stage, seed=2).layers
    network = DSRL(before.info.model, len(before.info.classes), stage)
    network.load_state_dict(fresh)
    fresh = {name: layer.clone() for name, layer in fresh.items()}
    load_layers(network, before, "test")
    expected = {**fresh, **before.layers}
    assert same_layers(network.state_dict(), expected)
    assert expected.keys() > before.layers.keys()


def test_pruned_weights_start_a_later_stage_with_its_branches_new(make_weights):
    pruned = prune(make_weights(3), "test")
    layers = build_network(pruned, "test", stage=3).state_dict()
    assert all(torch.equal(layers[name], layer) for name, layer in pruned.layers.items())


@pytest.mark.parametrize(
    ("model", "classes"),
    [
        ({"encoder": "resnet18"}, 5),
        ({"encoder": "mobilenetv3_small_075"}, 5),
        ({"decoder_channels": 32}, 5),
        ({"upsampler": "transposed"}, 5),
        ({}, 4),
    ],
)
def test_weights_of_another_network_are_refused(make_weights, model, classes):
    weights = make_weights(1, num_classes=5)
    settings = Model(**{**weights.info.model.model_dump(), **model})
    with pytest.raises(ValueError, match=r"^some\.weights: layer '.*(not those of|differs)"):
        load_layers(DSRL(settings, classes, 2), weights, "some.weights")


def test_weights_of_a_shallower_encoder_are_refused(make_weights):
    # All layers of resnet18 are in resnet34 too, by name and shape.
    weights = make_weights(1, encoder="resnet18")
    settings = weights.info.model.model_copy(update={"encoder": "resnet34"})
    with pytest.raises(ValueError, match=r"some\.weights: layer '.*' is missing"):
        load_layers(DSRL(settings, len(weights.info.classes), 1), weights, "some.weights")


def test_a_missing_layer_is_named(make_weights):
    weights = make_weights(2)
    layers = {k: v for k, v in weights.layers.items() if k != "sisr_head.conv.bias"}
    broken = Weights(weights.info, layers)
    with pytest.raises(ValueError, match=r"'sisr_head\.conv\.bias' is missing"):
        build_network(broken, "test", stage=3)
    build_network(broken, "test", stage=1)  # needs no such layer


def test_weights_without_a_part_are_not_pruned(make_weights):
    weights = make_weights(2)
    layers = {k: v for k, v in weights.layers.items() if not k.startswith("sssr_head")}
    with pytest.raises(ValueError, match=r"some\.weights: has no layers of 'sssr_head'"):
        prune(Weights(weights.info, layers), "some.weights")


def test_a_network_is_loaded_ready_for_inference(make_weights, tmp_path):
    weights = make_weights(3)
    save_weights(tmp_path / "w.weights", weights)
    network, transform, info = load_network(tmp_path / "w.weights", torch.device("cpu"))
    assert info == weights.info and transform.input_size == info.input_size
    assert not network.training and network.stage == 1
    images = torch.randn(1, 3, 32, 64)
    with torch.no_grad():
        assert torch.equal(
            network(images).logits, build_network(weights, "test", stage=3)(images).logits
        )


def test_inference_is_in_channels_last_format_which_changes_rounding_only(make_weights):
    network = build_network(make_weights(1), "test").double()
    wide = [p for p in network.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert wide and all(p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    images = torch.randn(2, 3, 32, 64, dtype=torch.float64)
    found = network(images).logits
    expected = network.to(memory_format=torch.contiguous_format)(images).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
