"""Where an image lies in a frame of another aspect ratio: `stretch` fills it, `pad` centres it."""

from typing import NamedTuple

from dsrl.config.sections import Fit


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def scaled(self, factor: int) -> "Box":
        """The same part of the image enlarged."""
        return Box(*(factor * value for value in self))

    @property
    def window(self) -> tuple[slice, slice]:
        """The part as an index of rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def fitted_box(size: tuple[int, int], frame: tuple[int, int], fit: Fit) -> Box:
    """Where an image of `size` lies in `frame`, both height and width: with `pad`, as large as its
    aspect ratio allows, and in the middle."""
    if fit == "stretch":
        return Box(0, 0, *frame)
    scale = min(whole / side for whole, side in zip(frame, size, strict=True))
    height, width = (
        min(whole, max(1, round(side * scale))) for whole, side in zip(frame, size, strict=True)
    )
    return Box((frame[0] - height) // 2, (frame[1] - width) // 2, height, width)


def stored_box(size: tuple[int, int], frame: tuple[int, int], fit: Fit) -> Box:
    """The same in a frame of the output size: twice the box in one of the input size, so that input
    and output agree to the pixel."""
    if fit == "stretch":
        return Box(0, 0, *frame)
    return fitted_box(size, (frame[0] // 2, frame[1] // 2), fit).scaled(2)
