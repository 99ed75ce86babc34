"""Names in scripts that Matplotlib's font lacks are drawn in a font of the system that has them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from dsrl.figures.figure import save_figure
from dsrl.figures.fonts import draw_text, find_fonts


def make_font(path: Path, name: str, characters: str) -> Path:
    """A font in which all of the characters are full squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(point)
    pen.closePath()
    square, nothing = pen.glyph(), TTGlyphPen(None).glyph()
    names = [".notdef", *(f"uni{ord(character):04X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap(dict(zip(map(ord, characters), names[1:], strict=True)))
    font.setupGlyf({**dict.fromkeys(names, square), ".notdef": nothing})
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=1000, descent=0)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2(sTypoAscender=1000, usWeightClass=400)
    font.setupPost()
    font.save(path)
    return path


@pytest.fixture
def system(monkeypatch, tmp_path):
    """A system whose fonts are installed after Matplotlib has made its list."""
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [e for e in manager.ttflist if "DejaVu" in e.name])
    paths: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: paths)

    def install(name: str, characters: str) -> None:
        paths.append(str(make_font(tmp_path / f"{name}.ttf", name, characters)))

    return install


def black(figure_or_text) -> int:
    """Number of black pixels."""
    return int((np.asarray(figure_or_text) == 0).all(-1).sum())


def test_as_few_fonts_as_have_all_characters_are_found(system, capsys):
    system("One", "天")
    system("Two", "天空道")
    system("Broken", "木")
    Path(font_manager.findSystemFonts()[-1]).write_bytes(b"no font")
    system("Three", "木")
    assert [font.name for font in find_fonts("road Straße дорога")] == ["DejaVu Sans"]
    assert [font.name for font in find_fonts("天空 road 道 木\n")] == [
        "DejaVu Sans",
        "Two",
        "Three",
    ]
    assert capsys.readouterr().err == ""


def test_what_no_font_has_is_said_in_one_line(system, tmp_path, capsys):
    system("One", "天")
    figure = Figure(layout="tight")
    figure.subplots().set_title("天空空 road")
    with warnings.catch_warnings(action="error"):
        save_figure(figure, tmp_path / "a.png")
    err = capsys.readouterr().err
    assert err.startswith("no font of this system has 空, drawn as boxes; install one")
    assert err.count("\n") == 1 and (tmp_path / "a.png").exists()


def test_charts_and_sheets_are_drawn_in_the_font_that_is_found(system, tmp_path, capsys):
    system("Squares", "天空")
    figure = Figure(figsize=(3, 2), layout="tight")
    ax = figure.subplots()
    ax.set_axis_off()
    figure.legend(handles=[ax.plot([], label="天空", color="white")[0]], fontsize=20)
    save_figure(figure, tmp_path / "a.png")
    square = 120 / 72 * 20  # pixels, at the resolution of `save_figure`
    with Image.open(tmp_path / "a.png") as image:
        assert black(image.convert("RGB")) == pytest.approx(2 * square**2, rel=0.15)
    sheet = Image.new("RGB", (60, 20), "white")
    draw_text(ImageDraw.Draw(sheet), (0, 0), "天空", find_fonts("天空"))
    assert black(sheet) == pytest.approx(2 * 13**2, rel=0.15)
    assert capsys.readouterr().err == ""
