"""Write Matplotlib figures, with names in any script.

The figures of this package are `matplotlib.figure.Figure` objects without pyplot: they need no
backend and no display, and are freed like any other object.
"""

import warnings
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from dsrl.figures.fonts import find_fonts
from dsrl.system.files import atomic_file


def save_figure(figure: Figure, output: Path) -> None:
    """Write a figure in the format of the suffix of `output`, atomically; PNG without a suffix.

    Raises:
        OSError: the file cannot be written.
        ValueError: Matplotlib does not write this format.
    """
    suffix = check_format(output)
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    _, *others = find_fonts("".join(text.get_text() for text in texts))
    for text in texts if others else ():
        text.set_fontfamily([*text.get_fontfamily(), *(font.name for font in others)])
    with atomic_file(output) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # `find_fonts` has said it
        figure.savefig(temporary, format=suffix, dpi=120)


def check_format(output: Path) -> str:
    """The format of the suffix of `output`, PNG without a suffix.

    Raises:
        ValueError: Matplotlib does not write this format.
    """
    known = FigureCanvasBase.get_supported_filetypes()
    suffix = output.suffix.removeprefix(".") or "png"
    if suffix not in known:
        raise ValueError(f"{output}: unsupported image format; choose one of {', '.join(known)}")
    return suffix
