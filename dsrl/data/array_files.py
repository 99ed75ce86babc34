"""Packed arrays on disk, written row by row; `manifest.py` says what they contain."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray


class ArrayFiles:
    """.npy files of uint8 in one folder, to which rows are appended."""

    def __init__(self, folder: Path, row_shapes: dict[str, tuple[int, ...]]) -> None:
        self._shapes = {name: (0, *shape) for name, shape in row_shapes.items()}
        with ExitStack() as stack:
            self._files = {
                name: stack.enter_context((folder / name).open("wb")) for name in row_shapes
            }
            self._write_headers()
            self._stack = stack.pop_all()

    def append(self, rows: dict[str, NDArray[np.uint8]]) -> None:
        for name, array in rows.items():
            count, *shape = self._shapes[name]
            assert array.dtype == np.uint8 and list(array.shape[1:]) == shape
            self._files[name].write(np.ascontiguousarray(array).data)
            self._shapes[name] = (count + len(array), *shape)

    def _write_headers(self) -> None:
        """NumPy leaves room for the first dimension to grow, so that a header keeps its length."""
        for name, file in self._files.items():
            file.seek(0)
            header = {"descr": "|u1", "fortran_order": False, "shape": self._shapes[name]}
            np.lib.format.write_array_header_1_0(file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._stack:
            self._write_headers()
