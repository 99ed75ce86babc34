"""An exported network places and resizes images and logits as `InputTransform` does."""

import pytest
import torch

from dsrl.data.fit import fitted_box
from dsrl.data.transforms import resize_images, resize_logits
from dsrl.inference.placing import Place

FRAME = (32, 64)
# Some sides become k + 1/2 pixels long, for an even and an odd k. None becomes 1 pixel wide, to
# which PyTorch 2.15 resizes wrongly.
SIZES = [(64, 41), (64, 43), (90, 61), (200, 20), (20, 200), (33, 32), (1, 1), (500, 24), (32, 64)]


def places_of(size: tuple[int, int], frame: tuple[int, int]) -> list[Place]:
    """Of height and width."""
    scale = torch.tensor(
        min(whole / side for whole, side in zip(frame, size, strict=True)), dtype=torch.float64
    )
    sides = [torch.arange(side, dtype=torch.float64) + 0.5 for side in size]
    return [Place.of(side, whole, scale) for side, whole in zip(sides, frame, strict=True)]


@pytest.mark.parametrize("frame", [FRAME, (96, 128), (7, 5)])
def test_a_place_is_that_of_the_box(frame):
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(1, 300, (300, 2), generator=generator).tolist()
    for size in (*SIZES, *((height, width) for height, width in drawn)):
        rows, columns = places_of(size, frame)
        found = (
            *(int(p.start) for p in (rows, columns)),
            *(int(p.length) for p in (rows, columns)),
        )
        assert found == fitted_box(size, frame, "pad"), size


@pytest.mark.parametrize("size", SIZES)
def test_resizing_is_that_of_whole_images_and_logits(size):
    box, (rows, columns) = fitted_box(size, FRAME, "pad"), places_of(size, FRAME)
    images, expected = torch.rand(2, 3, *size), torch.zeros(2, 3, *FRAME)
    expected[(..., *box.window)] = resize_images(images, (box.height, box.width))
    found = rows.shrink().float() @ images @ columns.shrink().float().T
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    logits = torch.rand(2, 5, 2 * FRAME[0], 2 * FRAME[1])
    expected = resize_logits(logits[(..., *box.scaled(2).window)], size)
    found = columns.enlarge(rows.enlarge(logits, 2), 3)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
