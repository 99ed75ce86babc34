"""Tiles cover an image, and their logits are blended without seams."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from dsrl import load_model
from dsrl.inference.tiles import blend_tiles, tile_starts


@pytest.mark.parametrize("tile", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 14, 15, 64, 65, 200])
def test_tiles_cover_all_and_overlap(length, tile):
    starts = tile_starts(length, tile)
    if length <= tile:
        assert starts == [0]
        return
    assert (starts[0], starts[-1]) == (0, length - tile)
    for one, other in pairwise(starts):
        assert one < other <= one + tile - tile // 4


@pytest.mark.parametrize("size", [(20, 50), (8, 50), (5, 17), (33, 3), (9, 17)])
def test_tiles_of_a_function_of_each_pixel_give_that_function(size):
    image = torch.randint(256, (1, 3, *size), dtype=torch.uint8)

    def predict(tiles):
        assert {tuple(t.shape[2:]) for t in tiles} == {(min(size[0], 8), min(size[1], 16))}
        return [tile.float() / 7 for tile in tiles]

    torch.testing.assert_close(blend_tiles(image, (8, 16), predict), image.float() / 7)


def test_there_are_no_seams():
    """Tiles that say different things are blended gradually."""
    values = iter(range(10))

    def predict(tiles):
        return [torch.full((1, 1, 8, 16), float(next(values))) for _ in tiles]

    blended = blend_tiles(torch.zeros(1, 3, 8, 40, dtype=torch.uint8), (8, 16), predict)
    row = blended[0, 0, 0]
    assert (row[0], row[-1]) == (0, 2)
    assert row.diff().min() >= 0 and row.diff().max() < 0.5


def test_large_images_are_predicted_in_tiles_and_others_as_a_whole(weights):
    model, rng = load_model(weights, "cpu"), np.random.default_rng(0)
    small = rng.integers(0, 256, (64, 100, 3), np.uint8)
    assert np.array_equal(model.predict(small, tiles=True), model.predict(small))
    large = rng.integers(0, 256, (100, 128, 3), np.uint8)
    mask = model.predict(large, tiles=True)
    assert mask.shape == (100, 128) and not np.array_equal(mask, model.predict(large))
    # Where there is one tile only, the prediction is that of the tile.
    assert np.mean(mask[:30] == model.predict(large[:64])[:30]) > 0.999
    shares = model.predict(large, (50, 64), probabilities=True, tiles=True)
    assert shares.shape == (len(model.classes), 50, 64)
    np.testing.assert_allclose(shares.sum(0), 1, rtol=1e-5)


def test_predictions_with_and_without_tiles_are_not_the_same_file(dsrl, weights, tmp_path):
    Image.effect_noise((150, 100), 90).save(tmp_path / "a.png")
    call = ("predict", "--weights", weights, "--device", "cpu", "--format", "train-ids")
    call = (*call, "--output", tmp_path / "out", tmp_path / "a.png")
    assert dsrl(*call, "--tiles")[::2] == (0, "")
    written = np.asarray(Image.open(tmp_path / "out/a.png"))
    expected = load_model(weights, "cpu").predict(tmp_path / "a.png", tiles=True)
    assert np.array_equal(written, expected)
    code, _, err = dsrl(*call)
    assert code == 1 and "exists, and was not made from" in err
    assert dsrl(*call, "--overwrite")[::2] == (0, "")
    assert not np.array_equal(np.asarray(Image.open(tmp_path / "out/a.png")), written)
