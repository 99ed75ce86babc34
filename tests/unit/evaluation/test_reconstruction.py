"""The PSNR of a super-resolution branch, beside an independent computation."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from dsrl.data.dataset import PreparedSplit
from dsrl.data.transforms import InputTransform
from dsrl.evaluation.reconstruction import mean_psnr

CPU = torch.device("cpu")


class Interpolation(torch.nn.Module):
    """A branch that interpolates, and adds a constant in units of the images' deviation."""

    def __init__(self, mode: str, offset: float = 0.0):
        super().__init__()
        self.mode, self.offset = mode, offset

    def super_resolve(self, images: torch.Tensor) -> torch.Tensor:
        twice = F.interpolate(images, scale_factor=2, mode=self.mode, align_corners=False)
        return twice + self.offset


@pytest.fixture(scope="module")
def val(prepared):
    split = PreparedSplit(prepared, "val")
    size = split.manifest.size[0] // 2, split.manifest.size[1] // 2
    return split, InputTransform.from_manifest(split.manifest, size)


def by_numpy(split, transform, offset) -> float:
    """Mean PSNR over the images, one by one, in float64."""
    found = []
    for image in split.images:
        target = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].double() / 255
        size = transform.input_size
        small = F.interpolate(target, size=size, mode="bilinear", antialias=True)
        large = F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        large = (large + offset * transform.std.double()[:, None, None]).clamp(0, 1)
        found.append(10 * np.log10(1 / np.square((large - target).numpy()).mean()))
    return float(np.mean(found))


@pytest.mark.parametrize("offset", [0.0, 0.3])
def test_it_is_that_of_each_image_alone(val, offset):
    split, transform = val
    found = mean_psnr(Interpolation("bilinear", offset), split, transform, CPU)
    assert found["psnr"] == pytest.approx(by_numpy(split, transform, offset), abs=1e-3)
    assert found["psnr_bilinear"] == pytest.approx(by_numpy(split, transform, 0), abs=1e-3)


def test_a_branch_that_interpolates_is_as_good_as_that(val):
    for mode in ("bilinear", "bicubic"):
        found = mean_psnr(Interpolation(mode), *val, CPU)
        assert found["psnr"] == pytest.approx(found[f"psnr_{mode}"], abs=1e-6)
    assert found["psnr_bicubic"] != pytest.approx(found["psnr_bilinear"], abs=0.01)
