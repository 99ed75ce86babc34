"""What a stage can start from: earlier stages, and encoders."""

import re
from contextlib import nullcontext

import pytest
import timm
import torch
from training import train

from dsrl.checkpoints.weights import save_weights
from dsrl.data.manifest import read_manifest
from dsrl.models.dsrl import DSRL
from dsrl.training.start import find_start


def test_stage_1_trains_from_an_encoder(prepared, tiny_settings, trained, tmp_path, capsys):
    path = tmp_path / "zoo.cpkt"
    torch.save(timm.create_model("mobilenetv3_small_050").state_dict(), path)
    train(tiny_settings(epochs=1), 1, prepared, tmp_path / "stage1", path)
    assert "encoder layers matched" in capsys.readouterr().err
    assert (tmp_path / "stage1" / "final.weights").exists()


def test_previous_stage_is_found_beside_the_output(tiny_settings, trained):
    start = find_start(tiny_settings().recipe(2), None, trained[2])
    assert start is not None and start.path == trained[1] / "final.weights"


def test_missing_previous_stage_is_named(tiny_settings, tmp_path):
    with pytest.raises(ValueError, match=r"stage1/final.weights does not exist"):
        find_start(tiny_settings().recipe(2), None, tmp_path / "stage2")


def test_wrong_stage_architecture_and_classes_say_which(
    prepared, tiny_settings, trained, make_weights, tmp_path
):
    settings = tiny_settings()
    with pytest.raises(ValueError, match="has the layers of stage 1; stage 3 starts from"):
        find_start(settings.recipe(3), trained[1] / "final.weights", tmp_path)
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "zoo.cpkt")
    with pytest.raises(ValueError, match=r"only the layers of an encoder.*choose --init encoder"):
        find_start(settings.recipe(2), tmp_path / "zoo.cpkt", tmp_path)
    for weights, message in (
        (make_weights(1, num_classes=3), r"3 classes \('demo'\), .* 19; .* choose --init encoder$"),
        (make_weights(1, encoder="resnet18"), "another architecture: encoder is resnet18 there"),
    ):
        save_weights(tmp_path / "other.weights", weights)
        with pytest.raises(ValueError, match=message):
            train(settings, 2, prepared, tmp_path / "stage2", tmp_path / "other.weights")


def test_weights_of_other_classes_give_their_encoder(
    prepared, tiny_settings, make_weights, tmp_path, capsys
):
    """As the message about them proposes."""
    weights = make_weights(1, num_classes=3)
    save_weights(tmp_path / "other.weights", weights)
    start = find_start(
        tiny_settings(init="encoder").recipe(2), tmp_path / "other.weights", tmp_path / "stage2"
    )
    network = DSRL(weights.info.model, 19, 2)
    start.apply(network, weights.info.model, read_manifest(prepared / "val").classes)
    backbone = network.encoder.backbone.state_dict(prefix="encoder.backbone.")
    assert all(torch.equal(layer, weights.layers[name]) for name, layer in backbone.items())
    told = capsys.readouterr().err.splitlines()[0]
    assert re.search(r"other\.weights: (\d+) of \1 encoder layers matched", told)


def test_without_the_file_of_its_encoder_a_stage_does_not_start(tiny_settings, tmp_path):
    """Whoever calls for the training; random weights would be another training."""
    settings = tiny_settings(encoder_weights="zoo.pth", init="encoder")
    for stage in (1, 2):
        with pytest.raises(ValueError, match=f"stage {stage} starts from trained weights of the"):
            find_start(settings.recipe(stage), None, tmp_path)


def test_a_recipe_says_how_much_of_an_encoder_must_be_there(tiny_settings, tmp_path, capsys):
    layers = timm.create_model("mobilenetv3_small_050").state_dict()
    del layers["conv_stem.weight"]
    torch.save(layers, tmp_path / "zoo.pth")
    network = DSRL(tiny_settings().model, 19, 1)
    for partial in (False, True):
        recipe = tiny_settings(allow_partial_encoder=partial).recipe(1)
        start = find_start(recipe, tmp_path / "zoo.pth", tmp_path)
        with nullcontext() if partial else pytest.raises(ValueError, match="205 of 206 encoder"):
            start.apply(network, recipe.model, ())
    assert "205 of 206 encoder layers matched" in capsys.readouterr().err


def test_a_recipe_says_whether_the_decoder_is_taken(tiny_settings, make_weights, tmp_path):
    weights = make_weights(1, num_classes=3)
    save_weights(tmp_path / "other.weights", weights)
    for taken in (False, True):
        settings = tiny_settings(
            encoder_weights="other.weights", pretrained_decoder=taken, init="encoder"
        )
        recipe = settings.recipe(1)
        start = find_start(recipe, tmp_path / "other.weights", tmp_path)
        network = DSRL(weights.info.model, 19, 1)
        start.apply(network, recipe.model, ())
        decoder = network.sssr_decoder.state_dict(prefix="sssr_decoder.")
        found = all(torch.equal(layer, weights.layers[name]) for name, layer in decoder.items())
        assert found == taken
