"""The network of each stage: sizes, what is shared, what is pruned, what learns."""

import pytest
import torch
import torch.nn.functional as F

from dsrl.config.model import Model
from dsrl.config.sections import Loss
from dsrl.losses import objective
from dsrl.models.dsrl import DSRL, PARTS

ENCODERS = ["resnet18", "mobilenetv3_small_050"]
CLASSES = 5
UPSAMPLERS = ["thin", "bilinear", "pixel_shuffle", "transposed"]


def build(stage: int, encoder: str = ENCODERS[1], seed: int = 0, **model: object) -> DSRL:
    torch.manual_seed(seed)
    settings = Model(encoder=encoder, decoder_channels=16, **model)  # type: ignore[arg-type]
    return DSRL(settings, CLASSES, stage)


@pytest.mark.parametrize("size", [(32, 64), (33, 47), (31, 50)])
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_predictions_are_twice_the_input_whatever_its_size(stage, upsampler, size):
    network = build(stage, upsampler=upsampler)
    output = network(torch.randn(2, 3, *size))
    twice = (2 * size[0], 2 * size[1])
    assert output.logits.shape == (2, CLASSES, *twice)
    assert (output.image is None) == (stage == 1)
    assert (output.segmentation_features is None) == (stage < 3)
    if stage > 1:
        assert output.image.shape == (2, 3, *twice)
    if stage > 2:
        features = output.segmentation_features, output.super_resolution_features
        assert features[0].shape == features[1].shape
        # stride 4 of the input, which is 1/8 of the output
        assert features[0].shape[2:] == (-(-size[0] // 4), -(-size[1] // 4))
    with torch.no_grad():
        assert network.eval()(torch.randn(1, 3, *size)).logits.shape == (1, CLASSES, *twice)


@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_output_stride_is_that_of_the_last_features(encoder, output_stride):
    network = build(1, encoder, output_stride=output_stride)
    low, high = network.encoder(torch.randn(2, 3, 64, 96))
    assert low.shape[2:] == (16, 24)
    assert high.shape[2:] == (64 // output_stride, 96 // output_stride)
    assert network(torch.randn(2, 3, 64, 96)).logits.shape[2:] == (128, 192)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_pruning_changes_no_bit_of_the_prediction(encoder):
    full = build(3, encoder)
    full(torch.randn(4, 3, 32, 64))  # so that batch norm has seen something
    pruned = build(1, encoder, seed=1)
    layers = full.state_dict()
    pruned.load_state_dict({name: layers[name] for name in pruned.state_dict()})
    images = torch.randn(2, 3, 33, 47)
    with torch.no_grad():
        expected, found = full.eval()(images), pruned.eval()(images)
    assert torch.equal(expected.logits, found.logits)
    assert expected.image is None and expected.segmentation_features is None


@pytest.mark.parametrize("encoder", ENCODERS)
def test_each_stage_holds_the_one_before(encoder):
    names = [set(build(stage, encoder).state_dict()) for stage in (1, 2, 3)]
    assert names[0] < names[1] < names[2]
    parts = [{name.partition(".")[0] for name in stage} for stage in names]
    assert parts[1] - parts[0] == {"sisr_decoder", "sisr_head"}
    assert parts[2] - parts[1] == {"fa_transform"}


@pytest.mark.parametrize("upsampler", [*UPSAMPLERS, "none"])
@pytest.mark.parametrize("network", ["deeplabv3plus", "espnetv2"])
def test_super_resolution_begins_at_the_mean_image(network, upsampler):
    torch.manual_seed(0)
    settings = Model(network=network, encoder=ENCODERS[1], upsampler=upsampler)
    output = DSRL(settings, 19, 2)(torch.randn(4, 3, 64, 96))
    assert output.image.square().mean() < 0.2


def test_a_residual_branch_begins_at_the_enlarged_input():
    network = build(2, sisr_residual=True)
    images = torch.randn(2, 3, 33, 48)
    twice = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
    assert torch.equal(network(images).image, twice)
    assert torch.equal(network.super_resolve(images), twice)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_parameter_learns(encoder, stage):
    network = build(stage, encoder)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            # timm starts residual branches at zero, which holds back their gradients for one step.
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    images = torch.randn(4, 3, 64, 128)
    labels = torch.randint(CLASSES, (4, 128, 256))
    losses = objective(network(images), labels, torch.randn(4, 3, 128, 256), Loss())
    losses.total.backward()
    idle = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert idle == []


def test_both_branches_decode_the_same_encoder():
    network = build(3)
    images = torch.randn(2, 3, 32, 64)
    before = network(images)
    with torch.no_grad():
        for parameter in network.encoder.aspp.parameters():
            parameter.add_(torch.randn_like(parameter))
    after = network(images)
    assert not any(torch.equal(x, y) for x, y in zip(before, after, strict=True))
    # and each learns from its own loss through it
    for part in (after.logits, after.image):
        (gradient,) = torch.autograd.grad(
            part.square().sum(), network.encoder.aspp.project[0].weight, retain_graph=True
        )
        assert gradient.any()


def test_super_resolution_does_not_run_through_segmentation_nor_the_reverse():
    network = build(3)
    output = network(torch.randn(2, 3, 32, 64))
    branches = {
        "logits": ("sssr_decoder", "sssr_head"),
        "image": ("sisr_decoder", "sisr_head"),
        "segmentation_features": ("sssr_decoder", "fa_transform"),
        "super_resolution_features": ("sisr_decoder",),
    }
    for name, parts in branches.items():
        network.zero_grad()
        getattr(output, name).square().sum().backward(retain_graph=True)
        reached = {
            key.partition(".")[0] for key, p in network.named_parameters() if p.grad is not None
        }
        assert reached == {"encoder", *parts}


def test_upsamplers_differ_in_nothing_else():
    shapes = {}
    for kind in UPSAMPLERS:
        layers = build(3, upsampler=kind).state_dict()
        shapes[kind] = {k: v.shape for k, v in layers.items() if ".upsampler." not in k}
    assert all(shapes[kind] == shapes["thin"] for kind in UPSAMPLERS)


def test_separable_convolutions_replace_the_wide_ones_outside_the_backbone():
    """Those of ASPP and decoders, not the upsampler's and SISR's."""
    for separable in (False, True):
        network = build(3, separable=separable)
        dense = {
            name
            for name, module in network.named_modules()
            if isinstance(module, torch.nn.Conv2d)
            and not name.startswith("encoder.backbone")
            and module.kernel_size == (3, 3)
            and module.groups == 1
        }
        expected = {"sssr_head.upsampler.up.1", "sisr_head.conv"}
        if not separable:
            expected |= {f"encoder.aspp.branches.{i}.0" for i in (1, 2, 3)}
            expected |= {
                f"{d}.fuse.{i}.0" for d in ("sssr_decoder", "sisr_decoder") for i in (0, 1)
            }
        assert dense == expected


@pytest.mark.parametrize("encoder", ["resnet1000", "no such model", "vgg11"])
def test_an_unfit_encoder_is_refused(encoder):
    with pytest.raises(ValueError) as caught:
        build(1, encoder)
    message = " ".join(str(caught.value).split())
    assert f"encoder '{encoder}'" in message and "choose" in message


@pytest.mark.parametrize("stage", [1, 2, 3])
@pytest.mark.parametrize("network", ["deeplabv3plus", "espnetv2"])
def test_parts_are_those_of_the_network(network, stage):
    """Files are loaded and pruned by them, so none must be missing."""
    with torch.device("meta"):
        layers = DSRL(Model(network=network, encoder="resnet18"), 5, stage).state_dict()
    assert {name.split(".")[0] for name in layers} == set(PARTS[stage])
