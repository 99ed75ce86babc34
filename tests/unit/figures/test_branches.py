"""Figures of the two branches: what SISR reconstructs, and which pixels resemble each other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure

from dsrl.checkpoints.network import load_branches
from dsrl.checkpoints.weights import prune, save_weights
from dsrl.data.dataset import PreparedSplit
from dsrl.data.description import load_description
from dsrl.data.preprocess import preprocess
from dsrl.evaluation.reconstruction import mean_psnr
from dsrl.figures import affinity, super_resolution
from dsrl.figures.examples import plot_examples
from dsrl.figures.super_resolution import ssim

CPU = torch.device("cpu")


@pytest.fixture
def both(of_stages) -> list[Path]:
    return of_stages(2, 3)


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures passed to `save_figure`."""
    figures: list[Figure] = []
    for module in (super_resolution, affinity):
        monkeypatch.setattr(module, "save_figure", lambda figure, output: figures.append(figure))
    return figures


def shown(figure: Figure, columns: int) -> list[np.ndarray]:
    """The images of the first row."""
    return [ax.images[0].get_array() for ax in figure.axes[:columns]]


def test_reconstructions_stand_beside_interpolation(prepared, both, drawn, tmp_path):
    output = tmp_path / "sr.png"
    super_resolution.plot_super_resolution(
        both, prepared, split="val", count=2, output=output, device="cpu"
    )
    table = pd.read_csv(tmp_path / "sr.csv").set_index("method")
    names = ["bilinear", "bicubic", "SSSR+SISR", "SSSR+SISR+FA"]
    assert table.index.tolist() == names
    split = PreparedSplit(prepared, "val")
    network, transform, _ = load_branches(both[1], CPU)
    means = mean_psnr(network, split, transform, CPU)
    assert table.psnr["SSSR+SISR+FA"] == pytest.approx(means["psnr"])
    assert table.psnr["bilinear"] == pytest.approx(means["psnr_bilinear"])
    assert table.ssim["bicubic"] > table.ssim["SSSR+SISR"], "untrained"
    titles = [ax.get_title() for ax in drawn[0].axes[:6]]
    expected = [
        f"{n}\nPSNR {table.psnr[n]:.2f} dB, SSIM {table.ssim[n]:.3f}, 64x128" for n in names
    ]
    assert titles == ["input, 32x64", *expected, "target, 64x128"]
    small, bilinear, _, _, _, target = shown(drawn[0], 6)
    assert np.array_equal(target, split.images[0])
    pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float()
    large = F.interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False)
    assert np.abs(large[0].permute(1, 2, 0).numpy() - bilinear).max() < 1.01, "rounding"


def test_ssim_is_that_of_its_paper():
    """By its equation 13, in float64, at each pixel of the image with reflected borders."""
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(1, 3, 24, 30, generator=generator)
    b = (a + 0.2 * torch.rand(1, 3, 24, 30, generator=generator)).clamp(0, 1)
    x = torch.arange(11, dtype=torch.float64) - 5
    weights = torch.exp(-(x**2) / (2 * 1.5**2))
    window = (weights / weights.sum()).outer(weights / weights.sum())[None, None]

    def mean(values):
        return torch.cat([F.conv2d(values[:, c : c + 1], window) for c in range(3)], 1)

    p, q = (F.pad(x.double(), (5, 5, 5, 5), mode="reflect") for x in (a, b))
    variances = [mean(v * w) - mean(v) * mean(w) for v, w in ((p, p), (q, q), (p, q))]
    c1, c2 = 0.01**2, 0.03**2
    maps = (2 * mean(p) * mean(q) + c1) * (2 * variances[2] + c2)
    maps /= (mean(p) ** 2 + mean(q) ** 2 + c1) * (variances[0] + variances[1] + c2)
    assert ssim(a, b).item() == pytest.approx(maps.mean().item(), abs=1e-5)
    assert ssim(a, a).item() == pytest.approx(1)


def test_affinity_is_the_similarity_of_normalised_features():
    features = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    maps = affinity.similarity(features, (0.5, 0.99))
    chosen = features[1, :, 1, 3]
    for row in range(3):
        for column in range(4):
            expected = F.cosine_similarity(features[1, :, row, column], chosen, dim=0)
            assert maps[1, row, column].item() == pytest.approx(expected.item(), abs=1e-6)


def test_affinity_maps_are_of_both_branches_of_each_stage(prepared, both, drawn, tmp_path):
    affinity.plot_affinity(
        both, prepared, split="val", count=2, pixel=(31, 0), output=tmp_path / "a.png", device="cpu"
    )
    titles = [ax.get_title() for ax in drawn[0].axes[:5]]
    names = [f"{b} in {s}, 8x16" for s in ("SSSR+SISR", "SSSR+SISR+FA") for b in ("SSSR", "SISR")]
    assert titles == ["input, 32x64", *names]
    marks = [ax for ax in drawn[0].axes if ax.lines]
    assert len(marks) == 2, "one for each image"
    assert (marks[0].lines[0].get_xdata()[0], marks[0].lines[0].get_ydata()[0]) == (0, 31)
    network, transform, _ = load_branches(both[1], CPU)
    split = PreparedSplit(prepared, "val")
    with torch.no_grad():
        pixels = torch.from_numpy(split.images[:1].copy()).permute(0, 3, 1, 2)
        features = network.branch_features(transform(pixels))
    for found, own in zip(shown(drawn[0], 5)[3:], features, strict=True):
        assert np.allclose(found, affinity.similarity(own, (31 / 32, 0))[0], atol=1e-5)
        assert found[-1, 0] == pytest.approx(1, abs=1e-5)


def test_a_pixel_outside_is_refused(prepared, both, tmp_path):
    with pytest.raises(ValueError, match=r"pixel 32 0 is outside of the input of 32x64"):
        affinity.plot_affinity(
            *(both, prepared), split="val", count=1, pixel=(32, 0), output=tmp_path / "a.png",
            device="cpu",
        )  # fmt: skip


def test_weights_without_the_branch_are_refused(make_weights, tmp_path):
    first, pruned = tmp_path / "1.weights", tmp_path / "pruned.weights"
    save_weights(first, make_weights(1, encoder="test_resnet"))
    save_weights(pruned, prune(make_weights(3, encoder="test_resnet"), "test"))
    for path in (first, pruned):
        with pytest.raises(ValueError, match=rf"{path.name}: has no super-resolution branch"):
            load_branches(path, CPU)


@pytest.mark.parametrize(
    "plot", [super_resolution.plot_super_resolution, affinity.plot_affinity, plot_examples]
)
def test_a_split_without_images_is_refused(both, tmp_path, plot):
    (tmp_path / "raw").mkdir()
    folder = tmp_path / "prepared/test"
    preprocess(load_description("camvid"), tmp_path / "raw", "test", (64, 128), folder, jobs=1)
    more = {"pixel": None} if plot is affinity.plot_affinity else {}
    with pytest.raises(ValueError, match="prepared/test: has no images"):
        plot(
            *(both, folder.parent),
            split="test",
            count=1,
            output=tmp_path / "a.png",
            device="cpu",
            **more,
        )
