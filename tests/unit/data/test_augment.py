"""Image, labels and target of a training sample belong together whatever is done to them."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dsrl.config.sections import Augmentation
from dsrl.data.augment import augment, crop, rotate
from dsrl.data.manifest import IGNORE_INDEX

SIZE = (64, 96)
FILL = [200, 200, 200]
# A colour per class; the fill stands for ignored pixels.
COLORS = torch.tensor([[20, 40, 220], [230, 30, 30], [30, 180, 40], [240, 220, 10]])
PLAIN = Augmentation(scale=(1, 1), flip=0, brightness=0, contrast=0, saturation=0, hue=0)


def picture(labels: Tensor) -> Tensor:
    """uint8 (H, W) -> uint8 (3, H, W): the colour of each label."""
    colors = torch.full((256, 3), FILL[0])
    colors[: len(COLORS)] = COLORS
    return colors[labels.long()].permute(2, 0, 1).byte()


@pytest.fixture
def labels() -> Tensor:
    """Blobs of the classes, coarse enough to survive a resize."""
    coarse = np.random.default_rng(0).integers(len(COLORS), size=(5, 6))
    return torch.from_numpy(np.kron(coarse, np.ones((32, 40)))).byte()  # (160, 240)


def draw(labels: Tensor, seed: int, settings: Augmentation) -> tuple[Tensor, Tensor, Tensor]:
    """Input, target and labels."""
    rng = np.random.default_rng(seed)
    return augment(picture(labels), labels, SIZE, settings, FILL, rng)[:3]


def distance(image: Tensor, labels: Tensor, down: int = 0, right: int = 0) -> float:
    """Mean difference of an image from what its labels, moved by some pixels, would look like.

    Alignment is seen by this: any move makes it larger, where blobs meet.
    """
    expected = picture(labels).roll((down, right), (1, 2)).float()
    return float((image.float() - expected)[:, 1:-1, 1:-1].abs().mean())


@pytest.mark.parametrize(
    "changes",
    [
        {"scale": (1, 1)},
        {"scale": (1, 1), "flip": 1},
        {"scale": (1.5, 3)},
        {"scale": (0.4, 0.8)},
        {"scale": (0.5, 2), "flip": 0.5},
    ],
)
def test_labels_stay_aligned_with_target_and_input(labels, changes):
    settings = PLAIN.model_copy(update=changes)
    moves = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    sums = dict.fromkeys(moves, 0.0)
    for seed in range(20):
        image, target, found = draw(labels, seed, settings)
        assert (image.shape, target.shape, found.shape) == ((3, 32, 48), (3, *SIZE), SIZE)
        assert image.dtype == target.dtype == found.dtype == torch.uint8
        for move in moves:
            sums[move] += distance(target, found, *move)
        halved = torch.nn.functional.avg_pool2d(target[None].float(), 2)[0]
        assert (halved - image).abs().mean() < 6, "the input is not the target at half the size"
    aligned = sums.pop((0, 0))
    assert aligned < 0.75 * min(sums.values()), (aligned, sums)


def test_every_sample_flips_or_none(labels):
    plain = draw(labels, 0, PLAIN)
    flipped = draw(labels, 0, PLAIN.model_copy(update={"flip": 1}))
    assert torch.equal(plain[2].flip(-1), flipped[2])
    assert torch.equal(plain[1].flip(-1), flipped[1])
    assert not torch.equal(plain[2], flipped[2])
    half = PLAIN.model_copy(update={"flip": 0.5})
    flips = sum(torch.equal(draw(labels, seed, half)[2], flipped[2]) for seed in range(200))
    assert 70 < flips < 130


def test_photometric_changes_touch_input_and_target_alike(labels):
    strong = PLAIN.model_copy(
        update={"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3}
    )
    for seed in range(10):
        plain, changed = draw(labels, seed, PLAIN), draw(labels, seed, strong)
        assert torch.equal(plain[2], changed[2])
        assert (plain[1].int() - changed[1].int()).abs().float().mean() > 3
        halved = torch.nn.functional.avg_pool2d(changed[1][None].float(), 2)[0]
        assert (halved - changed[0]).abs().mean() < 6, (
            "the input is not the target at half the size"
        )


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_each_photometric_change_works_and_can_be_switched_off(labels, name):
    plain = draw(labels, 0, PLAIN)
    changed = draw(labels, 0, PLAIN.model_copy(update={name: 0.4}))
    assert not torch.equal(plain[0], changed[0])


def test_labels_contain_nothing_that_was_not_there(labels):
    labels[40:80] = IGNORE_INDEX
    settings = PLAIN.model_copy(update={"scale": (0.5, 2.0), "flip": 0.5})
    allowed = {*labels.unique().tolist(), IGNORE_INDEX}
    for seed in range(30):
        assert set(draw(labels, seed, settings)[2].unique().tolist()) <= allowed


@pytest.mark.parametrize("zoom", [1.0, 1.01, 1.5, 2.0, 7.0])
def test_windows_reach_all_four_edges_and_every_place_between(zoom):
    shape = (13, 17)
    rows, columns = torch.meshgrid(*map(torch.arange, shape), indexing="ij")
    seen, tops = torch.zeros(shape), set()
    for seed in range(1000):
        window, same = crop([rows[None], columns], zoom, np.random.default_rng(seed))
        assert window.shape[1:] == same.shape == tuple(round(side / zoom) for side in shape)
        tops.add(int(window.min()))
        seen[int(window.min()) : int(window.max()) + 1, int(same.min()) : int(same.max()) + 1] += 1
    assert tops == set(range(shape[0] - round(shape[0] / zoom) + 1))
    assert seen.min() > 0, "no training sees a pixel outside of all windows"


def test_a_zoom_out_leaves_fill_and_ignored_labels_around_the_whole_image(labels):
    small, size = labels[::10, ::10], (16, 24)
    tops, lefts = set(), set()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        settings = PLAIN.model_copy(update={"scale": (0.5, 0.5), "flip": 0.5})
        _, target, found, mask = augment(picture(small), small, size, settings, FILL, rng)
        assert torch.equal(mask, found != IGNORE_INDEX)
        inside = (found != IGNORE_INDEX).nonzero()
        (top, left), (bottom, right) = inside.amin(0).tolist(), inside.amax(0).tolist()
        assert (bottom - top + 1, right - left + 1) == (8, 12) and len(inside) == 8 * 12
        assert (target[:, found == IGNORE_INDEX] == FILL[0]).all()
        tops.add(top)
        lefts.add(left)
    assert (tops, lefts) == (set(range(9)), set(range(13)))


def test_zooms_are_as_often_below_one_as_above(labels):
    settings, small = PLAIN.model_copy(update={"scale": (0.5, 2.0)}), labels[::8, ::8]
    out = sum(bool((draw(small, s, settings)[2] == IGNORE_INDEX).any()) for s in range(300))
    assert 110 < out < 190


def test_without_changes_the_sample_is_the_stored_image():
    labels = torch.randint(4, SIZE, dtype=torch.uint8)
    image = torch.randint(256, (3, *SIZE), dtype=torch.uint8)
    _, target, found, inside = augment(image, labels, SIZE, PLAIN, FILL, np.random.default_rng(0))
    assert torch.equal(target, image) and torch.equal(found, labels)
    assert inside.shape == SIZE and inside.all()


def test_a_rotation_turns_all_alike_and_leaves_out_the_corners(labels):
    settings = PLAIN.model_copy(update={"rotation": 30.0})
    angles = set()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        _, target, found, inside = augment(picture(labels), labels, SIZE, settings, FILL, rng)
        assert torch.equal(inside, found != IGNORE_INDEX)
        near = torch.nn.functional.max_pool2d(inside[None].float(), 3, 1, 1)[0] > 0
        assert (target[:, ~near] == FILL[0]).all()
        assert inside[SIZE[0] // 2, SIZE[1] // 2] and inside.float().mean() > 0.6
        moves = [(0, 0), (2, 0), (-2, 0), (0, 2), (0, -2)]
        aligned, *others = (distance(target, found, *move) for move in moves)
        assert aligned < min(others)
        angles.add(int(inside.sum()))
    assert len(angles) > 7


def test_a_quarter_turn_is_exact():
    """So that the angle is in degrees and anticlockwise."""
    labels = torch.randint(4, (64, 64), dtype=torch.uint8)
    found = rotate(picture(labels), labels, torch.ones(64, 64, dtype=torch.bool), 90, FILL)
    assert torch.equal(found[0], torch.rot90(picture(labels), 1, (1, 2)))
    assert torch.equal(found[1], torch.rot90(labels)) and found[2].all()


def test_the_sample_is_a_function_of_the_generator(labels):
    before = labels.clone()
    settings = Augmentation()
    first, second, other = (draw(labels, seed, settings) for seed in (1, 1, 2))
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))
    assert not torch.equal(first[1], other[1])
    assert torch.equal(labels, before)
