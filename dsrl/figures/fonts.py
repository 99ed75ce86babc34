"""Fonts for names in any script: Matplotlib's own lacks Chinese, Japanese, Korean and others."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from typing import NamedTuple

from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont

PIXELS = 13  # size of the text that `draw_text` draws
NO_LETTERS = ("Last Resort", "Adobe Blank", "Adobe NotDef")  # have a box for every character


class Font(NamedTuple):
    """A font of the system or of Matplotlib."""

    name: str  # of the family
    path: str
    plain: tuple[bool, bool, bool]  # the highest is the plainest

    def characters(self, wanted: set[str]) -> set[str]:
        """Those of the wanted characters that the font has."""
        with suppress(OSError, RuntimeError):  # it is gone, or damaged
            font = FT2Font(self.path)
            return {character for character in wanted if font.get_char_index(ord(character))}
        return set()


def find_fonts(text: str) -> list[Font]:
    """Matplotlib's font, and those of the system that have what it lacks of the text.

    If there is none for some characters, one line on stderr says so.
    """
    path = str(font_manager.findfont(font_manager.FontProperties()))
    fonts = [Font(FT2Font(path).family_name, path, (True, True, True))]
    wanted = {character for character in text if character.isprintable()}
    missing = wanted - fonts[0].characters(wanted)
    others = [(font.characters(missing), font) for font in _fonts()] if missing else []
    while missing:
        found, font = max(others, key=lambda each: (len(each[0] & missing), each[1].plain))
        if not found & missing:
            print(
                f"no font of this system has {''.join(sorted(missing))}, drawn as boxes; install "
                "one that has, such as Noto Sans CJK for Chinese, Japanese and Korean",
                file=sys.stderr,
            )
            break
        fonts.append(font)
        missing -= found
    return fonts


def _fonts() -> Iterator[Font]:
    """All fonts. Matplotlib's list is as old as its cache, and lacks those installed since."""
    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known:
            with suppress(Exception):  # whatever is wrong with one font, there are others
                manager.addfont(path)
    for entry in manager.ttflist:
        if not entry.name.startswith(NO_LETTERS):
            regular = entry.weight in (400, "normal", "regular")
            plain = (entry.style == "normal", regular, "Sans" in entry.name)
            yield Font(entry.name, entry.fname, plain)


def draw_text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, fonts: Sequence[Font]
) -> None:
    """Draw black text at (x, y), each character in the first font that has it."""
    having = [font.characters(set(text)) for font in fonts]

    def font_of(character: str) -> Font:
        return next(
            (f for f, some in zip(fonts, having, strict=True) if character in some), fonts[0]
        )

    x, y = place
    for font, characters in groupby(text, font_of):
        part = "".join(characters)
        drawn = ImageFont.truetype(font.path, PIXELS)
        draw.text((x, y + PIXELS), part, fill="black", font=drawn, anchor="ls")
        x += round(drawn.getlength(part))
