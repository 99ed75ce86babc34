"""A split may be the part of the files that a list names."""

import pytest

from dsrl.data.pairing import SplitPatterns


@pytest.fixture
def raw(tmp_path):
    """Two splits whose files have the same names."""
    for split in ("train", "val"):
        for name in ("f00", "f01", "my f02"):
            for file in (f"images/{split}/{name}.jpg", f"labels/{split}/{name}.png"):
                (tmp_path / "raw" / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "raw" / file).touch()
    return tmp_path / "raw"


def split(path: str = "list.txt", **changes: str) -> SplitPatterns:
    keys = {"image": "images/train/{frame}.jpg", "label": "labels/train/{frame}.png"}
    return SplitPatterns(**{**keys, **changes}, list=path)


def chosen(raw, content: str | bytes, **changes: str) -> list[str]:
    data = content if isinstance(content, bytes) else content.encode()
    (raw / "list.txt").write_bytes(data)
    return [name for name, _, _ in split(**changes).pairs(raw)]


@pytest.mark.parametrize(
    "line",
    [
        "f00",
        "f00.jpg",
        "train/f00",
        "images/train/f00.jpg",
        "./images/train/f00.jpg",
        "/home/me/data/images/train/f00.jpg",
        "/SegNet/train/f00.jpg",
        "images\\train\\f00.jpg",
        "C:\\data\\images\\train\\f00.jpg",
        "images/train/f00.jpg labels/train/f00.png",
        "/SegNet/train/f00.jpg\t/SegNet/labels/train/f00.png",
        "images/train/f00.jpg, labels/train/f00.png",
        "f00 f00",
    ],
)
def test_a_line_is_a_name_or_a_path_or_two(raw, line):
    assert chosen(raw, line) == ["f00"]


def test_spaces_in_names(raw):
    lines = "my f02.jpg my f02.png\nf00"
    assert chosen(raw, lines) == chosen(raw, "f00\nmy f02") == ["f00", "my f02"]


@pytest.mark.parametrize(
    "content",
    [
        "# train\n\n  f01 \n   \nf00",
        "f00\r\nf01\r\n",
        b"\xef\xbb\xbff00\nf01\n",
        "f01\nf00\n".encode("utf-16"),
        b"\xfe\xff" + "f01\r\nf00\r\n".encode("utf-16-be"),
    ],
    ids=["comments and blanks", "CRLF", "BOM", "UTF-16", "big endian"],
)
def test_text_files_as_editors_write_them(raw, content):
    assert chosen(raw, content) == ["f00", "f01"]


def test_names_without_the_end_that_all_have(tmp_path):
    """As the split lists of Cityscapes."""
    for frame in ("aachen/aachen_000000_000019", "bonn/bonn_000000_000019"):
        for file in (f"i/{frame}_leftImg8bit.png", f"l/{frame}_gtFine_labelIds.png"):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
    image, label = (
        "{city}/{city}_{frame}_leftImg8bit.png",
        "{city}/{city}_{frame}_gtFine_labelIds.png",
    )
    keys = {"image": f"i/{image}", "label": f"l/{label}"}
    for line in ("bonn/bonn_000000_000019", "bonn_000000_000019"):
        assert chosen(tmp_path, line, **keys) == ["bonn_000000_000019"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("f00\nf09", "list.txt, line 2: 'f09' is not the name or path of one of the 3 images"),
        ("images/val/f00.jpg", "line 1: 'images/val/f00.jpg' is not the name or path of one"),
        ("f00.png", "line 1: 'f00.png' is not"),
        ("f00 -1", "line 1: '-1' is not the label of 'f00'; that is labels/train/f00.png"),
        ("f00.jpg labels/train/f01.png", "'labels/train/f01.png' is not the label of 'f00.jpg'"),
        ("f00\n\nimages/train/f00.jpg", "line 3: 'images/train/f00.jpg' is in line 1 too"),
        ("/", "line 1: '/' is not"),
        ("# nothing\n", "list.txt: lists no image"),
        (b"f\xff\xff0", "list.txt: not a text file in UTF-8"),
    ],
)
def test_faulty_lists_are_reported_in_one_line(raw, content, message):
    with pytest.raises(ValueError) as caught:
        chosen(raw, content)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_line_that_fits_several_images(raw):
    keys = {"image": "images/{split}/{frame}.jpg", "label": "labels/{split}/{frame}.png"}
    with pytest.raises(ValueError, match="'f00' is not"):
        chosen(raw, "f00", **keys)
    assert chosen(raw, "val/f00\ntrain_f00", **keys) == ["train_f00", "val_f00"]


def test_the_longest_agreement_counts(tmp_path):
    for city in ("bonn", "ulm"):
        for kind in ("i", "l"):
            (tmp_path / city / kind).mkdir(parents=True)
            (tmp_path / city / kind / "x.png").touch()
    keys = {"image": "{city}/i/{frame}.png", "label": "{city}/l/{frame}.png"}
    assert chosen(tmp_path, "/data/bonn/i/x.png", **keys) == ["bonn_x"]


def test_only_listed_images_need_a_label_and_other_labels_do_not_count(raw):
    (raw / "labels/train/f01.png").unlink()
    (raw / "labels/train/f03.png").touch()
    assert chosen(raw, "f00") == ["f00"]
    with pytest.raises(ValueError, match=r"f01\.jpg: its label .*f01\.png is missing"):
        chosen(raw, "f01")
    assert chosen(raw, "f00\nf01", unlabelled="skip") == ["f00"]
    with pytest.raises(ValueError, match="none of the 1 images of the split has a label"):
        chosen(raw, "f01", unlabelled="skip")


def test_where_a_list_is_looked_for(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.txt").write_text("f00\n")
    for path in ("./mine.txt", str(tmp_path / "mine.txt"), "~/mine.txt"):
        assert [name for name, _, _ in split(path).pairs(raw)] == ["f00"]
    with pytest.raises(FileNotFoundError, match=r"raw/mine\.txt, the list of a split, does not"):
        split("mine.txt").pairs(raw)
    with pytest.raises(ValueError, match="is not a path below the data folder"):
        split("a/../../mine.txt")
