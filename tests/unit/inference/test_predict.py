"""Pictures of predictions: right sizes, values and names, whatever the image file is."""

import struct
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from dsrl.checkpoints.weights import build_network, load_weights
from dsrl.cli.main import main
from dsrl.data.dataset import PreparedSplit
from dsrl.figures import sheet
from dsrl.inference.frames import list_frames
from dsrl.inference.predictor import Predictor


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture(scope="module")
def weights(trained):
    return str(trained[3] / "final.weights")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("size", [(97, 41), (1, 1)])
def test_any_mode_and_size_gives_a_picture(weights, tmp_path, monkeypatch, mode, size):
    monkeypatch.chdir(tmp_path)
    name = "input.tiff" if mode in ("CMYK", "I;16") else "input.png"
    if mode == "I;16":
        Image.fromarray(np.full(size[::-1], 40000, np.uint16)).save(name)
    else:
        Image.new("RGB", size, (200, 100, 50)).convert(mode).save(name)
    main(["test", "--image-file", name, "--weights", weights, "--device", "cpu"])
    with Image.open("outputs/input.png") as picture:
        assert picture.mode == "RGB"
        assert picture.width == 3 * sheet.PANEL[0] + 4 * sheet.GAP


def test_picture_has_input_colours_overlay_and_legend(weights, prepared, tmp_path):
    split = PreparedSplit(prepared, "val")
    Image.fromarray(split.images[0]).resize((400, 200)).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as opened:
        image = np.asarray(opened)
    predictor = Predictor(weights, "cpu")
    labels = predictor(image, (200, 400))
    picture = np.asarray(sheet.draw_sheet(image, labels, predictor.classes))
    gap = sheet.GAP
    panels = [picture[gap : gap + 200, gap + k * (400 + gap) :][:, :400] for k in range(3)]
    palette = np.array([c.color for c in predictor.classes])
    assert np.array_equal(panels[0], image)
    assert np.array_equal(panels[1], palette[labels])
    assert np.abs(panels[2].astype(int) - (image.astype(int) + palette[labels]) // 2).max() <= 1
    legend = picture[200 + 2 * gap :].reshape(-1, 3)
    for train_id in np.unique(labels):
        assert (legend == palette[train_id]).all(1).any(), "a class is not in the legend"


def test_exif_orientation_is_honoured(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 255, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    image.save(tmp_path / "a.jpg", exif=exif)
    ((number, upright),) = list_frames(tmp_path / "a.jpg")
    assert number is None
    assert upright.shape == (40, 20, 3)
    assert upright[:20].mean() > 200 > 50 > upright[20:].mean()


@pytest.mark.parametrize("display", [False, True])
def test_picture_is_shown_only_where_there_is_a_display(weights, tmp_path, monkeypatch, display):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title=None: shown.append(title))
    if display:
        monkeypatch.setenv("DISPLAY", ":0")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    output = tmp_path / "out.png"
    main(["test", "--image-file", str(tmp_path / "a.png"), "--weights", weights,
          "--output", str(output), "--device", "cpu"])  # fmt: skip
    assert shown == ([str(output)] if display else [])


def test_cityscapes_format_is_label_ids_at_the_labels_size(weights, prepared, tmp_path):
    main(["predict", "--weights", weights, "--data", str(prepared), "--dataset-split", "val",
          "--output", str(tmp_path), "--format", "cityscapes"])  # fmt: skip
    split = PreparedSplit(prepared, "val")
    names = {f"{sample.name}_pred.png" for sample in split.manifest.samples}
    assert {path.name for path in tmp_path.iterdir()} == names
    loaded = load_weights(weights)
    network = build_network(loaded, weights)
    ids = np.array([c.id for c in split.manifest.classes])
    for index, sample in enumerate(split.manifest.samples):
        assert len(sample.name.split("_")) == 3, "city, sequence, frame"
        with Image.open(tmp_path / f"{sample.name}_pred.png") as picture:
            found = np.asarray(picture)
        assert found.dtype == np.uint8
        assert found.shape == sample.native_size
        pixels = torch.from_numpy(split.images[index].copy()).permute(2, 0, 1)[None]
        with torch.no_grad():
            labels = network(loaded.info.transform(pixels)).logits.argmax(1)[0].numpy()
        assert np.array_equal(found, ids[labels])


def test_files_folders_and_animations(weights, tmp_path):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.new("RGB", (30, 20)).save(folder / "b.png")
    (folder / "notes.txt").write_text("no image")
    frames = [Image.new("RGB", (24, 16), (60 * k, 0, 0)) for k in range(3)]
    film = tmp_path / "film.gif"
    frames[0].save(film, save_all=True, append_images=frames[1:])
    main(["predict", "--weights", weights, "--output", str(output), str(folder), str(film)])
    names = ["b.png", "film_000000.png", "film_000001.png", "film_000002.png"]
    assert sorted(path.name for path in output.iterdir()) == names
    with Image.open(output / "b.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (30, 20))


def make_film(path: Path, frames: int) -> None:
    """A film of 64x32 pixels, red on the left and growing green on the right."""
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(frames):
            pixels = np.zeros((32, 64, 3), np.uint8)
            pixels[:, :32, 0], pixels[:, 32:, 1] = 250, 40 * number
            film.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        film.mux(stream.encode())


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".MP4"])
def test_films_are_read_frame_by_frame(tmp_path, suffix):
    path = tmp_path / f"film{suffix}"
    make_film(path, 5)
    frames = list_frames(path)
    assert next(frames)[0] == 0  # before the others are decoded
    rest = list(frames)
    assert [number for number, _ in rest] == [1, 2, 3, 4]
    for number, image in rest:
        assert (image.shape, image.dtype) == ((32, 64, 3), np.uint8)
        assert np.abs(image[:, 4:28].mean((0, 1)) - [250, 0, 0]).max() < 20
        assert np.abs(image[:, 36:60].mean((0, 1)) - [0, 40 * number, 0]).max() < 20


def test_a_film_of_a_telephone_held_upright_is_turned(tmp_path):
    path = tmp_path / "film.mp4"
    make_film(path, 2)
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # turned by 90 degrees to the right
    one = 1 << 16
    content[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, -one, 0, 0, 32 * one, 0, 1 << 30)
    path.write_bytes(content)
    _, image = next(list_frames(path))
    assert image.shape == (64, 32, 3)
    assert image[4:28].mean((0, 1))[0] > 200 > 50 > image[36:60].mean((0, 1))[0], "red is on top"


def test_predictions_of_a_film_are_numbered(weights, tmp_path):
    (tmp_path / "in").mkdir()
    make_film(tmp_path / "in" / "film.mp4", 3)
    output = tmp_path / "out"
    main(["predict", "--weights", weights, "--output", str(output), str(tmp_path / "in")])
    assert sorted(p.name for p in output.iterdir()) == [f"film_00000{k}.png" for k in range(3)]
    with Image.open(output / "film_000002.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (64, 32))


@pytest.mark.parametrize("cut", [0, 1, 100, 0.5, 0.9])
def test_what_is_no_film_is_named(weights, tmp_path, cut):
    path = tmp_path / "film.mp4"
    make_film(path, 3)
    content = path.read_bytes()
    path.write_bytes(content[: int(cut * len(content)) if isinstance(cut, float) else cut])
    with pytest.raises(SystemExit, match=r"film\.mp4: unreadable as a film \(.*get or make it"):
        main(["predict", "--weights", weights, "--output", str(tmp_path / "out"), str(path)])
    assert not (tmp_path / "out").exists()


def test_a_playlist_is_no_film(tmp_path):
    """FFmpeg would open the files that it names."""
    make_film(tmp_path / "other.mp4", 1)
    path = tmp_path / "film.mp4"
    path.write_text("ffconcat version 1.0\nfile other.mp4\n")
    with pytest.raises(ValueError, match=r"film\.mp4: unreadable as a film"):
        list(list_frames(path))


def test_two_images_of_one_name_are_refused(weights, tmp_path, capsys):
    for name in ("a.png", "a.bmp"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    with pytest.raises(SystemExit) as exit_:
        main(["predict", "--weights", weights, "--output", str(tmp_path / "out"), str(tmp_path)])
    assert "two of the images would be written to" in str(exit_.value)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"text"])
def test_what_is_no_image_is_named(weights, tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(SystemExit, match=r"a.png: unreadable as an image"):
        main(["test", "--image-file", str(path), "--weights", weights])


def test_exported_network_gives_the_same_logits(weights, tmp_path):
    path = tmp_path / "network.pt2"
    main(["export", "--weights", weights, "--output", str(path)])
    info = {"info.json": ""}
    module = torch.export.load(path, extra_files=info).module()
    assert '"input_size": [32, 64]' in info["info.json"]
    loaded = load_weights(weights)
    images = torch.randint(256, (3, 3, 32, 64)).float()
    with torch.no_grad():
        expected = build_network(loaded, weights)(loaded.info.transform(images)).logits
        torch.testing.assert_close(module(images), expected)
