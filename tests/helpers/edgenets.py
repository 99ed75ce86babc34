"""Layers with the names and shapes that the authors' code gives them, and random values.

Written from the public code of sacmehta/EdgeNets and Xilinx/DSRL, not from this project's.
"""

from collections.abc import Iterator
from itertools import pairwise
from math import gcd, prod

import torch
from torch import Tensor

Layers = dict[str, Tensor]
Shapes = Iterator[tuple[str, tuple[int, ...]]]


def _norm(name: str, channels: int) -> Shapes:
    for tensor in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{tensor}", (channels,)
    yield f"{name}.num_batches_tracked", ()


def _conv(name: str, i: int, o: int, kernel: int, groups: int = 1) -> Shapes:
    yield f"{name}.weight", (o, i // groups, kernel, kernel)


def _cbr(name: str, i: int, o: int, kernel: int, groups: int = 1, parts="conv bn act") -> Shapes:
    conv, norm, *act = parts.split()
    yield from _conv(f"{name}.{conv}", i, o, kernel, groups)
    yield from _norm(f"{name}.{norm}", o)
    for part in act:
        yield f"{name}.{part}.weight", (o,)


def _eesp(name: str, i: int, o: int) -> Shapes:
    yield from _cbr(f"{name}.proj_1x1", i, o // 4, 1, 4)
    for branch in range(4):
        yield from _conv(f"{name}.spp_dw.{branch}.conv", o // 4, o // 4, 3, o // 4)
    yield from _cbr(f"{name}.conv_1x1_exp", o, o, 1, 4, "conv bn")
    yield from _norm(f"{name}.br_after_cat.bn", o)
    yield f"{name}.br_after_cat.act.weight", (o,)
    yield f"{name}.module_act.weight", (o,)


def _down(name: str, i: int, o: int, image: bool = True) -> Shapes:
    yield from _eesp(f"{name}.eesp", i, o - i)
    if image:
        yield from _cbr(f"{name}.inp_reinf.0", 3, 3, 3)
        yield from _cbr(f"{name}.inp_reinf.1", 3, o, 1, 1, "conv bn")
    yield f"{name}.act.weight", (o,)


def _pyramid(name: str, i: int, inner: int, o: int, last: bool = False) -> Shapes:
    for stage in range(5):
        yield from _conv(f"{name}.stages.{stage}", inner, inner, 3, inner)
    yield from _cbr(f"{name}.projection_layer", i, inner, 1, 1, "cbr.0 cbr.1 cbr.2")
    yield from _norm(f"{name}.merge_layer.0.br.0", 5 * inner)
    yield f"{name}.merge_layer.0.br.1.weight", (5 * inner,)
    yield from _cbr(f"{name}.merge_layer.2", 5 * inner, inner, 3, inner, "cbr.0 cbr.1 cbr.2")
    yield from _conv(f"{name}.merge_layer.3", inner, o, 1)
    if last:
        yield f"{name}.merge_layer.3.bias", (o,)
    else:
        yield from _norm(f"{name}.br.br.0", o)
        yield f"{name}.br.br.1.weight", (o,)


def _encoder(name: str, channels: tuple[int, ...]) -> Shapes:
    one, two, three, four = channels
    yield from _cbr(f"{name}level1", 3, one, 3)
    yield from _down(f"{name}level2_0", one, two)
    yield from _down(f"{name}level3_0", two, three)
    for unit in range(3):
        yield from _eesp(f"{name}level3.{unit}", three, three)
    yield from _down(f"{name}level4_0", three, four)
    for unit in range(7):
        yield from _eesp(f"{name}level4.{unit}", four, four)


def _values(shapes: Shapes) -> Layers:
    torch.manual_seed(0)
    return {name: _value(shape) for name, shape in shapes}


def _value(shape: tuple[int, ...]) -> Tensor:
    if not shape:
        return torch.tensor(1)
    if len(shape) == 1:
        return torch.rand(shape) + 0.5
    return torch.randn(shape) / prod(shape[1:]) ** 0.5


CHANNELS = {0.5: (16, 32, 64, 128), 1.0: (32, 64, 128, 256), 1.25: (32, 80, 160, 320)}


def segmentation_layers(width_scale: float = 0.5, classes: int = 20) -> Layers:
    """A segmentation model of EdgeNets."""

    def shapes() -> Shapes:
        channels = CHANNELS[width_scale]
        decoder = (channels[-1], 64, 48, 32, classes)
        yield from _encoder("base_net.", channels)
        for k, (i, o) in enumerate(pairwise(decoder), start=1):
            yield from _pyramid(f"bu_dec_l{k}", i, min(classes // 2, 16), o, last=k == 4)
        for k, i, o in zip((2, 3, 4), channels[2::-1], decoder[1:4], strict=True):
            yield from _conv(f"merge_enc_dec_l{k}.wt_layer.1", i, o, 1)
            yield from _cbr(
                f"merge_enc_dec_l{k}.expansion_layer", i, o, 3, gcd(i, o), "cbr.0 cbr.1 cbr.2"
            )
            yield from _norm(f"bu_br_l{k}.0", o)
            yield f"bu_br_l{k}.1.weight", (o,)

    return _values(shapes())


def dsrl_layers(width_scale: float = 0.5, classes: int = 20) -> Layers:
    """A network of the official DSRL: the same and two transposed convolutions."""

    def shapes() -> Shapes:
        for k in (5, 6):
            yield from _cbr(f"bu_dec_l{k}", classes, classes, 3, 1, "0 1 2")

    return {**segmentation_layers(width_scale, classes), **_values(shapes())}


def imagenet_layers(width_scale: float = 0.5) -> Layers:
    """A classification model of EdgeNets."""

    def shapes() -> Shapes:
        last = CHANNELS[width_scale][-1]
        yield from _encoder("", CHANNELS[width_scale])
        yield from _down("level5_0", last, 2 * last, image=False)
        for unit in range(3):
            yield from _eesp(f"level5.{unit}", 2 * last, 2 * last)
        yield from _cbr("level5.3", 2 * last, 2 * last, 3, 2 * last)
        yield from _cbr("level5.4", 2 * last, 1024, 1, 4)
        yield "classifier.weight", (1000, 1024)
        yield "classifier.bias", (1000,)

    return _values(shapes())
