"""Layers of the authors' networks get the names that they have here."""

import pytest
import torch
from edgenets import dsrl_layers, imagenet_layers, segmentation_layers

from dsrl.config.model import Model
from dsrl.models.dsrl import DSRL
from dsrl.models.edgenets import from_edgenets


def network(upsampler="none", width_scale=0.5, classes=20):
    settings = Model(network="espnetv2", width_scale=width_scale, upsampler=upsampler)
    with torch.device("meta"):
        return DSRL(settings, classes, stage=1)


@pytest.mark.parametrize(
    ("layers", "upsampler"), [(segmentation_layers(), "none"), (dsrl_layers(), "transposed")]
)
def test_every_layer_of_a_segmentation_network_has_a_place(layers, upsampler):
    network(upsampler).load_state_dict(from_edgenets(layers), assign=True)


def test_an_imagenet_model_is_an_encoder():
    layers = {
        name.removeprefix("encoder."): layer
        for name, layer in from_edgenets(imagenet_layers()).items()
    }
    network().encoder.load_state_dict(layers, assign=True)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ("base_net.level1.bn.running_var", "encoder.level1.1.running_var"),
        ("level3_0.inp_reinf.1.bn.bias", "encoder.levels.1.down.reinforce.1.1.bias"),
        ("level4_0.eesp.spp_dw.3.conv.weight", "encoder.levels.2.down.eesp.branches.3.weight"),
        ("level2_0.act.weight", "encoder.levels.0.down.activation.weight"),
        ("level4.6.module_act.weight", "encoder.levels.2.units.6.activation.weight"),
        ("level3.1.br_after_cat.act.weight", "encoder.levels.1.units.1.eesp.fuse.0.1.weight"),
        ("level3.1.conv_1x1_exp.bn.weight", "encoder.levels.1.units.1.eesp.fuse.2.weight"),
        ("bu_dec_l2.stages.4.weight", "sssr_decoder.pyramids.1.levels.4.weight"),
        ("bu_dec_l1.br.br.1.weight", "sssr_decoder.pyramids.0.fuse.3.weight"),
        ("bu_dec_l4.merge_layer.3.bias", "sssr_head.classifier.fuse.1.bias"),
        ("merge_enc_dec_l4.wt_layer.1.weight", "sssr_decoder.skips.2.gate.weight"),
        ("bu_br_l3.1.weight", "sssr_decoder.activations.1.1.weight"),
        ("module.bu_dec_l6.0.weight", "sssr_head.upsampler.1.up.0.weight"),
    ],
)
def test_names(there, here):
    assert list(from_edgenets({there: torch.zeros(1)})) == [here]


def test_nothing_but_what_has_no_use_is_left_out():
    layers = segmentation_layers()
    unused = [f"base_net.level{k}_0.eesp.module_act.weight" for k in (2, 3, 4)]
    assert len(from_edgenets(layers)) == len(layers) - len(unused)
    assert from_edgenets({name: layers[name] for name in unused}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "backbone.conv.weight",
        "base_net.level5.0.proj_1x1.conv.weight",  # of a detection model
        "bu_dec_l4.merge_layer.3.weight_v",
        "bu_dec_l7.0.weight",
        "level1.conv",
    ],
)
def test_an_unknown_name_is_an_error(name):
    with pytest.raises(ValueError, match=f"^layer '{name}' is not one of EdgeNets' ESPNetv2$"):
        from_edgenets({name: torch.zeros(1)})
