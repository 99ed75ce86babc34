"""Encoders of model zoos: which layers of a file are whose, and whether all are there."""

import pytest
import timm
import torch
from edgenets import dsrl_layers, imagenet_layers, segmentation_layers
from safetensors.torch import save_file

from dsrl.checkpoints.encoder import load_decoder, load_encoder, load_zoo_file
from dsrl.config.model import Model
from dsrl.models.dsrl import DSRL
from dsrl.models.edgenets import from_edgenets


def resnet(**options) -> dict[str, torch.Tensor]:
    torch.manual_seed(5)
    return timm.create_model("resnet18", num_classes=7, **options).state_dict()


def torchvision_resnet() -> dict[str, torch.Tensor]:
    import torchvision

    torch.manual_seed(6)
    return torchvision.models.resnet18(weights=None).state_dict()


def encoder(**settings):
    return DSRL(Model(**settings), 5, 1).encoder


def resnet_encoder():
    return encoder(encoder="resnet18", decoder_channels=16)


@pytest.mark.parametrize(
    "zoo",
    [
        resnet,
        torchvision_resnet,
        lambda: {f"module.{name}": layer for name, layer in resnet().items()},
        lambda: {"state_dict": {f"module.backbone.{k}": v for k, v in resnet().items()}},
    ],
)
def test_zoo_names_fill_the_whole_encoder(zoo, tmp_path, capsys):
    path = tmp_path / "resnet18.cpkt"
    torch.save(zoo(), path)
    own = resnet_encoder()
    load_encoder(own, load_zoo_file(path), path)
    told = capsys.readouterr().err
    assert told == (
        f"{path}: 100 of 100 encoder layers matched; 2 entries of the file are not used\n"
    )
    source = zoo()
    layers = {k.split("layer4")[-1]: v for k, v in (source.get("state_dict") or source).items()}
    state = own.state_dict()
    name = next(name for name in state if name.endswith("layer4.1.conv2.weight"))
    assert torch.equal(state[name], layers[".1.conv2.weight"])


def test_names_that_timm_flattens(tmp_path, capsys):
    """Its encoders have `stages_0.` where its models have `stages.0.`."""
    layers = timm.create_model("convnext_atto").state_dict()
    own = encoder(encoder="convnext_atto", decoder_channels=16)
    load_encoder(own, layers, tmp_path / "a.pth")
    told = capsys.readouterr().err
    matched, _, needed = told.partition(": ")[2].split()[:3]
    assert matched == needed
    state = own.backbone.state_dict()
    theirs = layers["stages.3.blocks.1.mlp.fc2.weight"]
    assert torch.equal(state["features.stages_3.blocks.1.mlp.fc2.weight"], theirs)


@pytest.mark.parametrize("zoo", [segmentation_layers, imagenet_layers, dsrl_layers])
def test_encoders_of_edgenets(zoo, tmp_path, capsys):
    layers = zoo()
    own = encoder(network="espnetv2", width_scale=0.5)
    load_encoder(own, {"state_dict": layers}, tmp_path / "a.pth")
    assert "312 of 312 encoder layers matched" in capsys.readouterr().err
    (theirs,) = (v for k, v in layers.items() if k.endswith("level4.6.spp_dw.3.conv.weight"))
    assert torch.equal(own.state_dict()["levels.2.units.6.eesp.branches.3.weight"], theirs)


def test_the_names_of_efficientnet_pytorch(tmp_path, capsys):
    """The same layers in the same order; of another depth, they do not match."""
    theirs = timm.create_model("tf_efficientnet_lite0").state_dict()
    layers = {f"_{number}": layer for number, layer in enumerate(theirs.values())}
    layers = {"_conv_stem.weight": layers.pop("_0"), **layers}
    own = encoder(encoder="tf_efficientnet_lite0", decoder_channels=16)
    load_encoder(own, layers, tmp_path / "a.pth")
    assert "240 of 240 encoder layers matched; 8 entries" in capsys.readouterr().err
    name = "blocks.6.0.conv_pwl.weight"
    assert torch.equal(own.backbone.features.state_dict()[name], theirs[name])
    with pytest.raises(ValueError, match=r"0 of 315 .* weights of another encoder$"):
        other = encoder(encoder="tf_efficientnet_lite1", decoder_channels=16)
        load_encoder(other, layers, tmp_path / "a.pth", partial=True)


def test_safetensors(tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    save_file(resnet(), path)
    load_encoder(resnet_encoder(), load_zoo_file(path), path)
    assert "100 of 100" in capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(
        ValueError, match=r"model\.safetensors: cannot be loaded: truncated"
    ) as told:
        load_zoo_file(path)
    assert "\n" not in str(told.value)
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors: no such file"):
        load_zoo_file(tmp_path / "b.safetensors")


def test_layers_that_do_not_match_are_an_error_unless_allowed(tmp_path, capsys):
    layers = resnet()
    layers["conv1.weight"] = layers["conv1.weight"][:, :1]
    for name in ("layer1.0.conv1.weight", "layer1.1.conv1.weight"):
        del layers[name]
    path, own = tmp_path / "a.cpkt", resnet_encoder()
    before = {name: layer.clone() for name, layer in own.state_dict().items()}
    with pytest.raises(ValueError) as refused:
        load_encoder(own, layers, path)
    found = (
        f"{path}: 97 of 100 encoder layers matched; layer 'features.conv1.weight' has shape "
        "(64, 1, 7, 7), the encoder needs (64, 3, 7, 7), and 2 others do not match"
    )
    assert str(refused.value).startswith(f"{found}; choose weights of this encoder, or set allow_")
    assert all(torch.equal(layer, before[name]) for name, layer in own.state_dict().items())
    load_encoder(own, layers, path, partial=True)
    assert capsys.readouterr().err == f"{found}; 3 entries of the file are not used\n"
    state = own.state_dict()
    kept = [name for name, layer in state.items() if torch.equal(layer, before[name])]
    assert "backbone.features.conv1.weight" in kept
    assert "backbone.features.layer2.0.conv1.weight" not in kept


@pytest.mark.parametrize("partial", [False, True])
def test_weights_of_another_encoder_are_an_error(tmp_path, partial):
    with pytest.raises(ValueError, match=r"a.cpkt: 0 of 100 .* weights of another encoder$"):
        load_encoder(
            resnet_encoder(), {"head.weight": torch.zeros(3)}, tmp_path / "a.cpkt", partial
        )


def test_the_decoder_of_a_whole_network(tmp_path, capsys):
    layers, path = segmentation_layers(), tmp_path / "a.pth"
    network = DSRL(Model(network="espnetv2", width_scale=0.5), 5, 2)
    head = {name: layer.clone() for name, layer in network.sssr_head.state_dict().items()}
    load_decoder(network.sssr_decoder, layers, path)
    own = network.sssr_decoder.state_dict()
    theirs = from_edgenets(layers)
    assert all(torch.equal(own[name], theirs[f"sssr_decoder.{name}"]) for name in own)
    assert f"a.pth: {len(own)} of {len(own)} decoder layers matched" in capsys.readouterr().err
    # Of other classes, so that nothing else is taken.
    after = network.sssr_head.state_dict()
    assert all(torch.equal(after[name], layer) for name, layer in head.items())


def test_without_the_decoder_that_is_asked_for_no_training_starts(tmp_path):
    network = DSRL(Model(network="espnetv2", width_scale=0.5), 5, 1)
    with pytest.raises(ValueError, match=r"a\.pth: has no decoder; choose weights of a whole"):
        load_decoder(network.sssr_decoder, imagenet_layers(), tmp_path / "a.pth")
    layers = segmentation_layers()
    name = next(name for name in layers if name.startswith("bu_dec_l1.") and "weight" in name)
    with pytest.raises(ValueError, match=r"a\.pth: layer .* is missing"):
        rest = {key: layer for key, layer in layers.items() if key != name}
        load_decoder(network.sssr_decoder, rest, tmp_path / "a.pth")


def test_an_unknown_layer_of_edgenets_names_the_file(tmp_path):
    layers = {**segmentation_layers(), "new.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"a\.pth: layer 'new\.weight' is"):
        load_encoder(encoder(network="espnetv2", width_scale=0.5), layers, tmp_path / "a.pth")
