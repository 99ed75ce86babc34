"""What the authors of ESPNetv2 call its layers, in their EdgeNets code, and what they are here.

The official DSRL code builds on EdgeNets; its network has two more layers, `bu_dec_l5` and
`bu_dec_l6`. Detection models and networks other than ESPNetv2 are not known here.
"""

import re
from collections.abc import Mapping

from torch import Tensor

Names = dict[str, str]  # regular expression of a name there -> template of the name here


def _inside(there: str, here: str, names: Names) -> Names:
    """The names in a module that is called `there` there and `here` here."""
    return {rf"{there}\.{old}": f"{here}.{new}" for old, new in names.items()}


CONV_BN_PRELU = {"conv": "0", "bn": "1", "act": "2"}
EESP = {
    **_inside("proj_1x1", "reduce", CONV_BN_PRELU),
    r"spp_dw\.(?P<branch>\d)\.conv": r"branches.\g<branch>",
    r"br_after_cat\.bn": "fuse.0.0",
    r"br_after_cat\.act": "fuse.0.1",
    r"conv_1x1_exp\.conv": "fuse.1",
    r"conv_1x1_exp\.bn": "fuse.2",
}
EESP_UNIT = {**{old: f"eesp.{new}" for old, new in EESP.items()}, "module_act": "activation"}
DOWNSAMPLER = {
    **_inside("eesp", "eesp", EESP),
    **_inside(r"inp_reinf\.(?P<part>[01])", r"reinforce.\g<part>", CONV_BN_PRELU),
    "act": "activation",
}
PYRAMID_POOLING = {
    r"projection_layer\.cbr\.(?P<part>[012])": r"reduce.\g<part>",
    r"stages\.(?P<part>\d)": r"levels.\g<part>",
    r"merge_layer\.0\.br\.(?P<part>[01])": r"activation.\g<part>",
    r"merge_layer\.2\.cbr\.(?P<part>[012])": r"fuse.0.\g<part>",
    r"merge_layer\.3": "fuse.1",
    r"br\.br\.0": "fuse.2",
    r"br\.br\.1": "fuse.3",
}
GATED_PROJECTION = {
    r"wt_layer\.1": "gate",
    r"expansion_layer\.cbr\.(?P<part>[012])": r"project.\g<part>",
}
ENCODER = {
    **_inside("level1", "encoder.level1", CONV_BN_PRELU),
    **_inside("level2_0", "encoder.levels.0.down", DOWNSAMPLER),
    **_inside("level3_0", "encoder.levels.1.down", DOWNSAMPLER),
    **_inside("level4_0", "encoder.levels.2.down", DOWNSAMPLER),
    **_inside(r"level3\.(?P<unit>\d)", r"encoder.levels.1.units.\g<unit>", EESP_UNIT),
    **_inside(r"level4\.(?P<unit>\d)", r"encoder.levels.2.units.\g<unit>", EESP_UNIT),
}
NETWORK = {
    **ENCODER,  # of a classification model
    **{rf"base_net\.{old}": new for old, new in ENCODER.items()},
    **_inside("bu_dec_l1", "sssr_decoder.pyramids.0", PYRAMID_POOLING),
    **_inside("bu_dec_l2", "sssr_decoder.pyramids.1", PYRAMID_POOLING),
    **_inside("bu_dec_l3", "sssr_decoder.pyramids.2", PYRAMID_POOLING),
    **_inside("bu_dec_l4", "sssr_head.classifier", PYRAMID_POOLING),
    **_inside("merge_enc_dec_l2", "sssr_decoder.skips.0", GATED_PROJECTION),
    **_inside("merge_enc_dec_l3", "sssr_decoder.skips.1", GATED_PROJECTION),
    **_inside("merge_enc_dec_l4", "sssr_decoder.skips.2", GATED_PROJECTION),
    r"bu_br_l2\.(?P<part>[01])": r"sssr_decoder.activations.0.\g<part>",
    r"bu_br_l3\.(?P<part>[01])": r"sssr_decoder.activations.1.\g<part>",
    r"bu_br_l4\.(?P<part>[01])": r"sssr_decoder.activations.2.\g<part>",
    r"bu_dec_l5\.(?P<part>[012])": r"sssr_head.upsampler.0.up.\g<part>",  # the official DSRL's
    r"bu_dec_l6\.(?P<part>[012])": r"sssr_head.upsampler.1.up.\g<part>",
}
# What a network of this project has no use for: an activation that their code never applies, in
# the three strided EESPs; and the fifth level and the classifier of a classification model.
UNUSED = r"(base_net\.)?level[234]_0\.eesp\.module_act|level5(_0)?\..+|classifier"

TENSOR = r"(?P<tensor>weight|bias|running_mean|running_var|num_batches_tracked)"
_RENAMES = [(re.compile(rf"{old}\.{TENSOR}"), rf"{new}.\g<tensor>") for old, new in NETWORK.items()]
_UNUSED = re.compile(rf"({UNUSED})\.{TENSOR}")


def from_edgenets(layers: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The layers of a published ESPNetv2, as the DSRL network names them.

    Args:
        layers: of a segmentation model or of an ImageNet model of EdgeNets, or of the official
            DSRL. Names may begin with the `module.` of `DataParallel`.

    Returns:
        The same tensors, in `encoder.`, `sssr_decoder.` and `sssr_head.`; of an ImageNet model in
        `encoder.` only. Shapes are not checked.

    Raises:
        ValueError: a layer has a name that these models do not have.
    """
    renamed = {}
    for name, tensor in layers.items():
        plain = name.removeprefix("module.")
        if not _UNUSED.fullmatch(plain):
            renamed[_renamed(plain)] = tensor
    return renamed


def _renamed(name: str) -> str:
    for pattern, template in _RENAMES:
        if match := pattern.fullmatch(name):
            return match.expand(template)
    raise ValueError(f"layer '{name}' is not one of EdgeNets' ESPNetv2")
