"""Write Matplotlib figures.

The figures of this package are `matplotlib.figure.Figure` objects without pyplot: they need no
backend and no display, and are freed like any other object.
"""

from pathlib import Path

from matplotlib.figure import Figure

from dsrl.system.files import atomic_file


def save_figure(figure: Figure, output: Path) -> None:
    """Write a figure in the format of the suffix of `output`, atomically; PNG without a suffix.

    Raises:
        OSError: the file cannot be written.
        ValueError: Matplotlib does not write this format.
    """
    known = figure.canvas.get_supported_filetypes()
    suffix = output.suffix.removeprefix(".") or "png"
    if suffix not in known:
        raise ValueError(f"{output}: unsupported image format; choose one of {', '.join(known)}")
    with atomic_file(output) as temporary:
        figure.savefig(temporary, format=suffix, dpi=120)
