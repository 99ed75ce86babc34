"""The sheet of `dsrl test`: input, colour map, overlay and legend, for any image file."""

import numpy as np
import pytest
from PIL import Image

from dsrl.cli.main import main
from dsrl.data.dataset import PreparedSplit
from dsrl.figures import sheet
from dsrl.inference.predictor import Predictor

SMALLEST = 3 * sheet.PANEL[0] + 4 * sheet.GAP  # width of the sheet of a small image


@pytest.fixture(autouse=True)
def _no_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.fixture(scope="module")
def predictor(weights) -> Predictor:
    return Predictor(weights, "cpu")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
@pytest.mark.parametrize("size", [(97, 41), (1, 1)])
def test_an_image_of_any_mode_and_size_gives_a_sheet(predictor, tmp_path, mode, size):
    path = tmp_path / ("input.tiff" if mode in ("CMYK", "I;16") else "input.png")
    if mode == "I;16":
        Image.fromarray(np.full(size[::-1], 40000, np.uint16)).save(path)
    else:
        Image.new("RGB", size, (200, 100, 50)).convert(mode).save(path)
    sheet.write_sheet(path, predictor, tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert (image.mode, image.width) == ("RGB", SMALLEST)


def test_a_sheet_has_input_colours_overlay_and_legend(predictor, prepared):
    stored = Image.fromarray(PreparedSplit(prepared, "val").images[0])
    image = np.asarray(stored.resize((400, 200)))
    labels = predictor.predict(image)
    drawn = np.asarray(sheet.draw_sheet(image, labels, predictor.classes))
    gap = sheet.GAP
    panels = [drawn[gap : gap + 200, gap + k * (400 + gap) :][:, :400] for k in range(3)]
    palette = np.array([c.color for c in predictor.classes])
    assert np.array_equal(panels[0], image)
    assert np.array_equal(panels[1], palette[labels])
    assert np.abs(panels[2].astype(int) - (image.astype(int) + palette[labels]) // 2).max() <= 1
    legend = drawn[200 + 2 * gap :].reshape(-1, 3)
    assert len(np.unique(labels)) > 2
    for train_id in np.unique(labels):
        assert (legend == palette[train_id]).all(1).any(), "a class is not in the legend"


@pytest.mark.parametrize("display", [False, True])
def test_a_sheet_is_shown_only_if_there_is_a_display(predictor, tmp_path, monkeypatch, display):
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda self, title=None: shown.append(title))
    if display:
        monkeypatch.setenv("DISPLAY", ":0")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    sheet.write_sheet(tmp_path / "a.png", predictor, tmp_path / "out.png")
    assert shown == ([str(tmp_path / "out.png")] if display else [])


def test_a_sheet_replaces_a_sheet_and_no_other_file(dsrl, weights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((8, 8), 90).save("input.png")
    line = ("test", "--image-file", "input.png", "--weights", weights, "--device", "cpu")
    for _ in range(2):
        assert dsrl(*line) == (0, "outputs/input.png\n", "")
    for mine in ("mine.png", "text.png"):
        Image.new("RGB", (8, 8)).save("mine.png")
        (tmp_path / "text.png").write_text("mine")
        before = (tmp_path / mine).read_bytes()
        code, _, err = dsrl(*line, "--output", mine)
        assert (code, err.count("\n")) == (1, 1)
        assert f"{mine}: exists and is not a sheet of `dsrl test`" in err
        assert (tmp_path / mine).read_bytes() == before
    code, _, err = dsrl(*("outputs/input.png" if word == "input.png" else word for word in line))
    assert code == 1 and "outputs/input.png: would overwrite the input outputs/input.png" in err


def test_the_command_names_the_sheet_after_the_image(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("input.png")
    main(["test", "--image-file", "input.png", "--weights", str(weights), "--device", "cpu"])
    assert capsys.readouterr().out == "outputs/input.png\n"
    with Image.open("outputs/input.png") as image:
        assert image.width == SMALLEST
