"""`dsrl predict` knows every file before it writes one, goes on past bad images, and continues."""

import json
import os
import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from shared import snapshot

from dsrl.checkpoints.weights import save_weights
from dsrl.inference.predictor import Predictor


@pytest.fixture(scope="module")
def two_weights(make_weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        save_weights(folder / f"{seed}.weights", make_weights(1, seed, encoder="test_resnet"))
    return folder


@pytest.fixture
def predict(dsrl, two_weights, tmp_path, monkeypatch):
    """Run `dsrl predict` in a folder with a few images; gives exit code and stderr."""
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("a.jpg", "cam1/a.jpg", "cam2/a.jpg", "cam2/deep/b.png")):
        path = Path("photos", name)
        path.parent.mkdir(exist_ok=True, parents=True)
        noise = np.random.default_rng(number).integers(0, 256, (12, 20, 3), np.uint8)
        Image.fromarray(noise).save(path)

    def run(*arguments: object, weights: int = 0) -> tuple[int, str]:
        path = two_weights / f"{weights}.weights"
        code, out, err = dsrl("predict", "--device", "cpu", "--weights", path, *arguments)
        assert out == ""
        return code, err

    return run


def names(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*.*"))


def pictures(folder: str) -> dict[str, bytes]:
    return {name: Image.open(Path(folder, name)).tobytes() for name in names(folder)}


def make_video(path: str, frames: int) -> None:
    with av.open(path, "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(frames):
            pixels = np.full((32, 64, 3), 40 * number, np.uint8)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())


def test_the_folders_below_a_folder_are_kept(predict):
    assert predict("photos", "--output", "out") == (0, "")
    assert names("out") == ["a.png", "cam1/a.png", "cam2/a.png", "cam2/deep/b.png"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["photos/cam1", "photos/cam2"], ["photos/cam1/a.jpg", "photos/cam2/a.jpg", "out/a.png"]),
        (["photos", "photos/cam2/a.jpg"], ["photos/a.jpg", "photos/cam2/a.jpg", "out/a.png"]),
        (["photos/cam2/deep", "other/b.bmp"], ["deep/b.png", "other/b.bmp", "out/b.png"]),
        (["other/v.mp4", "other/v_000001.jpg"], ["v.mp4", "v_000001.jpg", "out/v_000001.png"]),
        (["other/b.bmp", "nested"], ["other/b.bmp", "nested/b.png/c.jpg", "out/b.png"]),
    ],
)
def test_two_images_of_one_file_are_refused_before_any_is_predicted(
    predict, tmp_path, arguments, named
):
    Path("other").mkdir()
    Image.new("RGB", (8, 8)).save("other/b.bmp")
    make_video("other/v.mp4", 2)
    shutil.copy("photos/a.jpg", "other/v_000001.jpg")
    Path("nested/b.png").mkdir(parents=True)
    shutil.copy("photos/a.jpg", "nested/b.png/c.jpg")
    before = snapshot(tmp_path)
    code, err = predict(*arguments, "--output", "out")
    assert (code, err.count("\n")) == (1, 1) and all(name in err for name in named), err
    assert snapshot(tmp_path) == before


def test_an_image_given_twice_is_predicted_once(predict):
    assert predict("photos/a.jpg", "photos/../photos/a.jpg", "photos", "--output", "out")[0] == 0
    assert names("out") == ["a.png", "cam1/a.png", "cam2/a.png", "cam2/deep/b.png"]


@pytest.mark.parametrize("bad", [b"", b"text", "half"])
def test_the_others_are_predicted_where_some_are_bad(predict, bad):
    path = Path("photos/cam1/a.jpg")
    path.write_bytes(path.read_bytes()[:400] if bad == "half" else bad)
    Path("photos/cam1/v.mp4").write_bytes(b"text")
    code, err = predict("photos", "--output", "out")
    first, second, last = err.splitlines()
    assert code == 1 and first.startswith("photos/cam1/a.jpg: ") and "v.mp4: " in second
    assert last == "dsrl predict: 2 of 5 images could not be predicted; see above"
    assert names("out") == ["a.png", "cam2/a.png", "cam2/deep/b.png"]


def test_of_one_bad_image_there_is_one_line(predict):
    Path("photos/a.jpg").write_bytes(b"text")
    code, err = predict("photos/a.jpg", "--output", "out")
    assert (code, err.count("\n")) == (1, 1) and err.startswith("dsrl predict: photos/a.jpg: ")
    assert not Path("out").exists()


def test_an_unwritable_place_ends_the_call_at_once(predict, monkeypatch):
    Path("out/a.png").mkdir(parents=True)
    monkeypatch.setattr(Predictor, "predict", lambda *_, **__: pytest.fail("must not be tried"))
    code, err = predict("photos", "--output", "out")
    assert (code, err.count("\n")) == (1, 1) and "out/a.png: cannot be written" in err


def test_what_is_no_image_is_counted_in_one_line(predict):
    for name in ("x.pdf", "y.PDF", "cam1/f.h5", "b.HEIC", "c.mpg", ".DS_Store", "cam1/._a.jpg"):
        Path("photos", name).write_bytes(b"%!PS")
    code, err = predict("photos", "--output", "out")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("photos: left out 1 .h5, 1 .heic, 1 .mpg, 2 .pdf; HEIC cannot be read; ")
    assert len(names("out")) == 4


def test_a_folder_without_images_is_refused(predict, tmp_path):
    Path("empty").mkdir()
    Path("empty/a.heic").touch()
    code, err = predict("photos", "empty", "--output", "out")
    assert (code, err.count("\n")) == (1, 1)
    assert "empty: no image or video in this folder (left out 1 .heic; HEIC cannot" in err
    assert not Path("out").exists()


def test_a_repeated_call_continues(predict, monkeypatch):
    predict("photos", "--output", "out")
    expected = pictures("out")
    Path("out/cam2/a.png").unlink()
    cut = Path("out/a.png")
    cut.write_bytes(cut.read_bytes()[:-20])
    os.utime("photos/cam1/a.jpg")  # the same content
    kept = {name: Path("out", name).stat() for name in ("cam1/a.png", "cam2/deep/b.png")}
    sizes = []
    original = Predictor.predict
    monkeypatch.setattr(
        Predictor, "predict", lambda *args, **more: sizes.append(1) or original(*args, **more)
    )
    assert predict("photos", "--output", "out") == (0, "out: kept predictions that were there: 2\n")
    assert len(sizes) == 2 and pictures("out") == expected
    assert {name: Path("out", name).stat() for name in kept} == kept


@pytest.mark.parametrize("what", ["weights", "format", "size", "image", "mine"])
def test_what_was_made_from_something_else_is_neither_kept_nor_replaced(predict, tmp_path, what):
    predict("photos", "--output", "out")
    options = {"format": ["--format", "train-ids"], "size": ["--size", "24", "40"]}.get(what, [])
    weights = int(what == "weights")
    if what == "image":
        shutil.copy("photos/cam2/a.jpg", "photos/cam1/a.jpg")
    elif what == "mine":
        Image.new("RGB", (20, 12)).save("out/cam1/a.png")
    before = snapshot(tmp_path)
    code, err = predict("photos", "--output", "out", *options, weights=weights)
    assert (code, err.count("\n")) == (1, 1) and "another --output" in err and "--overwrite" in err
    assert "a.png: exists, and was not made from" in err
    assert ("4 such files" in err) == (what in ("weights", "format", "size"))
    assert snapshot(tmp_path) == before
    code, err = predict("photos", "--output", "out", "--overwrite", *options, weights=weights)
    kept = 0 if what in ("weights", "format", "size") else 3
    assert (code, err) == (0, f"out: kept predictions that were there: {kept}\n" if kept else "")
    predict("photos", "--output", "new", *options, weights=weights)
    assert pictures("out") == pictures("new")


def test_a_video_continues_at_the_frame_that_is_missing(predict, monkeypatch):
    make_video("v.mp4", 5)
    predict("v.mp4", "--output", "out")
    expected = pictures("out")
    assert len(expected) == 5
    Path("out/v_000003.png").unlink()
    assert predict("v.mp4", "--output", "out")[1] == "out: kept predictions that were there: 4\n"
    assert pictures("out") == expected
    shutil.copy("out/v_000001.png", "out/v_000003.png")
    code, err = predict("v.mp4", "--output", "out")
    assert code == 1 and "out/v_000003.png: exists" in err and "such files" not in err
    code, err = predict("v.mp4", "--output", "out", weights=1)
    assert code == 1 and "out/v_000000.png: exists" in err and "(5 such files)" in err
    make_video("v.mp4", 6)  # another one
    assert predict("v.mp4", "--output", "out")[0] == 1
    assert predict("v.mp4", "--output", "out", "--overwrite") == (0, "")


def test_a_split_continues(predict, prepared):
    call = ("--data", prepared, "--output", "out", "--format", "cityscapes")
    assert predict(*call) == (0, "")
    first = names("out")[0]
    Path("out", first).unlink()
    assert predict(*call) == (0, "out: kept predictions that were there: 4\n")
    code, err = predict(*call, weights=1)
    assert code == 1 and f"out/{first}: exists" in err and "(5 such files)" in err


def test_images_are_not_decoded_to_plan(predict, monkeypatch):
    predict("photos", "--output", "out")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("must not be decoded"))
    assert predict("photos", "--output", "out")[0] == 0


def test_predictions_among_the_images_are_no_images(predict):
    Path("photos/cam2/deep/b.png").rename("photos/cam2/deep/b.tif")
    assert predict("photos", "--output", "photos") == (0, "")
    first = names("photos")
    code, err = predict("photos", "--output", "photos")
    assert (code, err.splitlines()) == (
        0,
        ["photos: left out 4 made by `dsrl`", "photos: kept predictions that were there: 4"],
    )
    assert names("photos") == first and len(first) == 8


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_no_picture_is_overwritten(predict, tmp_path, link, overwrite):
    """Neither under its name in the output folder nor through a link there."""
    Path("out").mkdir()
    if link:
        link(Path("photos/a.jpg").absolute(), "out/a.png")
    else:
        Image.new("RGB", (8, 8)).save("out/a.png")
    sources = ["photos/a.jpg"] if link else ["out/a.png"]
    before = snapshot(tmp_path)
    code, err = predict(*sources, "--output", "photos/../out", *overwrite)
    assert (code, err.count("\n")) == (1, 1) and "out/a.png: would overwrite the input" in err
    assert snapshot(tmp_path) == before


def test_overlays_of_folders_and_videos(predict):
    make_video("photos/v.mp4", 2)
    assert predict("photos", "--output", "out", "--format", "overlay") == (0, "")
    assert predict("photos", "--output", "color") == (0, "")
    files = ["a.png", "cam1/a.png", "cam2/a.png", "cam2/deep/b.png"]
    assert names("out") == [*files, "v_000000.png", "v_000001.png"]
    photo = np.asarray(Image.open("photos/cam2/deep/b.png")).astype(int)
    colours = np.asarray(Image.open("color/cam2/deep/b.png"))
    overlay = np.asarray(Image.open("out/cam2/deep/b.png"))
    assert np.array_equal(overlay, (photo + colours) // 2)


def test_a_summary_has_the_shares_also_of_what_was_there(predict):
    make_video("photos/v.mp4", 2)
    assert predict("photos/cam2", "--output", "out/cam2", "--format", "train-ids") == (0, "")
    call = ("photos", "--output", "out", "--format", "train-ids", "--summary", "shares.json")
    Path("photos/cam1/bad.jpg").write_bytes(b"text")
    code, err = predict(*call)
    assert code == 1 and "out: kept predictions that were there: 2\n" in err
    found = json.loads(Path("shares.json").read_text())
    assert sorted(found["files"]) == names("out") and found["images"] == len(names("out")) == 6
    masks = {name: np.asarray(Image.open(Path("out", name))).ravel() for name in names("out")}
    everything = np.concatenate(list(masks.values()))
    for shares, mask in [
        (found["shares"], everything),
        *((found["files"][name], mask) for name, mask in masks.items()),
    ]:
        expected = np.bincount(mask, minlength=len(shares)) / mask.size
        assert list(shares.values()) == pytest.approx(expected.tolist(), abs=1e-6)
    before = Path("shares.json").read_text()
    assert predict(*call)[0] == 1
    assert Path("shares.json").read_text() == before


def test_a_film_has_the_predictions_of_all_frames_at_the_rate_of_the_video(predict):
    make_video("v.mp4", 5)
    code, told = predict(
        "v.mp4", "photos/a.jpg", "--output", "out", "--format", "overlay", "--film"
    )
    assert (code, told) == (0, f"{Path('out/v.mp4')}: written\n")
    with av.open("out/v.mp4") as film:
        assert film.streams.video[0].average_rate == 10
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 5
    for number, frame in enumerate(frames):
        expected = np.asarray(Image.open(f"out/v_{number:06}.png")).astype(int)
        assert np.abs(frame - expected).mean() < 10
    # The frames are kept, and the film is made again.
    assert predict("v.mp4", "--output", "out", "--format", "overlay", "--film")[0] == 0


def test_a_film_does_not_replace_its_video(predict):
    make_video("v.mp4", 2)
    before = Path("v.mp4").read_bytes()
    code, told = predict("v.mp4", "--output", ".", "--film")
    assert code == 1 and "v.mp4" in told and Path("v.mp4").read_bytes() == before


def test_a_film_is_of_colours(predict):
    make_video("v.mp4", 2)
    code, told = predict("v.mp4", "--output", "out", "--format", "train-ids", "--film")
    assert code == 2 and "--film is for the formats color and overlay, not train-ids" in told
