"""ESPNetv2: its published costs, its structure, and DSRL over it."""

import runpy
from pathlib import Path

import pytest
import torch

from dsrl.checkpoints.network import build_network
from dsrl.checkpoints.weights import Weights, WeightsInfo, prune
from dsrl.config.model import Model
from dsrl.config.sections import Loss
from dsrl.config.settings import read_settings
from dsrl.losses import objective
from dsrl.models.cost import flops, parameters
from dsrl.models.dsrl import DSRL
from dsrl.models.eesp import EESP, Downsampler, PyramidPooling, dilations, resize
from dsrl.models.espnetv2 import ESPNetv2Encoder

UPSAMPLERS = ("thin", "bilinear", "pixel_shuffle", "transposed")
ODD_SIZES = [(64, 96), (65, 97), (33, 50), (17, 31)]


def settings(**changes):
    return Model(network="espnetv2", width_scale=0.5, **changes)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Maps this small are slower on several threads, and far slower on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights():
    """Weights of stage 3, as training leaves them: batch norm has seen data."""
    torch.manual_seed(0)
    network = DSRL(settings(), 4, stage=3).train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))
    info = WeightsInfo(
        stage=3,
        layers="all",
        model=settings(),
        dataset="test",
        classes=[{"name": str(i), "color": (i, i, i), "id": i} for i in range(4)],
        mean=(0, 0, 0),
        std=(1, 1, 1),
        input_size=(64, 64),
        epoch=1,
        scores={},
    )
    return Weights(info, network.state_dict())


# https://github.com/sacmehta/EdgeNets, model/segmentation/model_zoo: Cityscapes, then Pascal VOC.
@pytest.mark.parametrize(
    ("classes", "size", "published"),
    [
        (20, (256, 512), 674.78),
        (20, (512, 1024), 2699.05),
        (21, (256, 256), 337.58),
        (21, (384, 384), 759.52),
    ],
)
def test_costs_are_the_published_ones(classes, size, published):
    """All digits of the published multiply-adds; see docs/espnetv2.md for what they count."""
    with torch.device("meta"):
        network = DSRL(Model(network="espnetv2"), classes, stage=1).eval()
    upsampler = network.sssr_head.upsampler
    assert parameters(network) - parameters(upsampler) == pytest.approx(0.79e6, abs=0.005e6)
    network.sssr_head.upsampler = torch.nn.Identity()
    half_a_bias = classes * size[0] * size[1] / 4 / 2
    millions = (flops(network, size) / 2 + half_a_bias) / 1e6
    assert millions == pytest.approx(published, abs=0.005)


def test_dilations_keep_to_the_receptive_field():
    assert dilations(13) == dilations(9) == [1, 2, 3, 4]
    assert dilations(7) == [1, 1, 2, 3]
    assert dilations(5) == [1, 1, 1, 2]


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("stride", [1, 2])
def test_eesp_keeps_or_halves_the_resolution(size, stride):
    unit = EESP(32, 64, receptive_field=9, stride=stride)
    height, width = (-(-side // stride) for side in size)
    assert unit(torch.randn(2, 32, *size)).shape == (2, 64, height, width)


def test_eesp_sees_as_far_as_its_widest_branch():
    unit = EESP(16, 16, receptive_field=9).eval()
    image = torch.randn(1, 16, 21, 21, requires_grad=True)
    unit(image)[0, :, 10, 10].sum().backward()
    rows = image.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    assert (rows.min(), rows.max()) == (6, 14)  # 9 pixels, dilation 4


def test_downsampler_adds_the_image():
    down = Downsampler(32, 64, receptive_field=13).eval()
    features, image = torch.randn(1, 32, 9, 11), torch.randn(1, 3, 5, 6)
    assert down(features, image).shape == (1, 64, 5, 6)
    assert not torch.equal(down(features, image), down(features, 0 * image))


@pytest.mark.parametrize("size", ODD_SIZES)
def test_encoder_halves_four_times(size):
    for k, features in enumerate(ESPNetv2Encoder(1.0)(torch.randn(2, 3, *size)), start=1):
        assert features.shape == (2, 16 * 2**k, *(-(-side // 2**k) for side in size))


def test_pyramid_fuses_each_channel_over_all_resolutions():
    pyramid = PyramidPooling(4, 3, 2, tail=()).eval()
    before = pyramid.fuse[0][0]
    seen = []
    before.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for level in pyramid.levels:
        torch.nn.init.zeros_(level.weight)
        level.weight.data[:, :, 1, 1] = torch.tensor([[1.0], [2.0], [3.0]])
    constant = torch.ones(1, 4, 8, 8)
    pyramid(constant)
    reduced = pyramid.reduce(constant)[0, :, 0, 0]
    expected = (reduced * torch.tensor([1.0, 2.0, 3.0])).repeat_interleave(5)
    expected = torch.where(expected > 0, expected, expected / 4)
    torch.testing.assert_close(seen[0][0, :, 4, 4], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("size", ODD_SIZES)
def test_predictions_are_exactly_twice_the_input(size, upsampler):
    network = DSRL(settings(upsampler=upsampler), 5, stage=3).train()
    output = network(torch.randn(2, 3, *size))
    height, width = 2 * size[0], 2 * size[1]
    assert output.logits.shape == (2, 5, height, width)
    assert output.image.shape == (2, 3, height, width)
    assert output.segmentation_features.shape == output.super_resolution_features.shape


@pytest.mark.parametrize("upsampler", UPSAMPLERS)
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_every_parameter_receives_a_gradient(stage, upsampler):
    torch.manual_seed(0)
    network = DSRL(settings(upsampler=upsampler), 5, stage).train()
    labels = torch.randint(5, (2, 96, 128))
    output = network(torch.randn(2, 3, 48, 64))
    objective(output, labels, torch.randn(2, 3, 96, 128), Loss()).total.backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert not silent


@pytest.mark.parametrize("classes", [1, 2, 3, 40])
def test_any_number_of_classes(classes):
    network = DSRL(settings(), classes, stage=1).eval()
    assert network(torch.randn(1, 3, 32, 48)).logits.shape == (1, classes, 64, 96)


def test_resizes_align_corners():
    """So the authors' do; tests/unit/checkpoints/test_published.py compares with their results."""
    features = torch.randn(1, 2, 4, 6)
    assert torch.equal(resize(features, (8, 12))[..., ::7, ::11], features[..., ::3, ::5])
    network = DSRL(settings(upsampler="none"), 5, stage=1).eval()
    maps = []
    network.sssr_head.classifier.register_forward_hook(lambda *seen: maps.append(seen[-1]))
    logits = network(torch.randn(1, 3, 64, 96)).logits
    assert logits.shape == (1, 5, 128, 192)
    assert torch.equal(logits[..., ::127, ::191], maps[0][..., ::31, ::47])


def test_pruned_network_predicts_what_the_full_one_does(weights):
    images = torch.randn(2, 3, 45, 70)
    full = build_network(weights, "test", stage=3)
    pruned = build_network(prune(weights, "test"), "test")
    assert parameters(pruned) < parameters(full)
    with torch.no_grad():
        assert torch.equal(pruned(images).logits, full(images).logits)


def test_grouped_convolutions_start_at_unit_gain():
    """A depth-wise convolution has 9 inputs, however many channels there are."""
    network = DSRL(Model(network="espnetv2"), 5, stage=1)
    weight = network.encoder.levels[2].units[0].eesp.branches[0].weight
    assert weight.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.1)


def test_settings_of_another_network_are_no_reason_to_train_again():
    def recipe(**settings: object) -> dict:
        return read_settings(settings).recipe(1).model_dump()

    assert recipe(network="deeplabv3plus") == recipe(width_scale=1.0)
    own = recipe(network="espnetv2")
    assert own == recipe(network="espnetv2", encoder="other")
    assert own != recipe(network="espnetv2", width_scale=1.0)


def test_documented_costs_are_counted_ones(capsys):
    root = Path(__file__).parents[3]
    runpy.run_path(str(root / "benchmarks/espnetv2_cost.py"), run_name="__main__")
    assert capsys.readouterr().out in (root / "docs/espnetv2.md").read_text(encoding="utf-8")
