"""Image files of kinds that Pillow reads but does not write."""

import struct
import zlib

import numpy as np
from PIL import Image

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB = 0, 1, 2
INTEGER, SIGNED, FLOAT = 1, 2, 3


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of values of less than 8 bits, or of 12, each filled up to whole bytes."""
    digits = np.unpackbits(values.astype(">u2")[..., None].view(np.uint8), axis=-1)[..., -bits:]
    return np.packbits(digits.reshape(len(values), -1), axis=1).tobytes()


def tiff(
    values: np.ndarray,
    bits: int,
    photometric: int = BLACK_IS_ZERO,
    kind: int = INTEGER,
    *,
    order: str = "<",
    planes_apart: bool = False,
    fields: dict[int, tuple[int, float]] | None = None,
) -> bytes:
    """An uncompressed TIFF.

    Args:
        values: (h, w) or (h, w, c).
        kind: SampleFormat.
        order: `<` or `>`.
        fields: further ones: tag -> type (3 short, 4 long, 11 float) and value.
    """
    height, width, *channels = values.shape
    count = channels[0] if channels else 1
    if planes_apart:
        values = values.reshape(height, width, count).transpose(2, 0, 1).reshape(-1, width)
    if bits in (8, 16, 32):
        letter = {INTEGER: "u", SIGNED: "i", FLOAT: "f"}[kind]
        data = values.astype(f"{order}{letter}{bits // 8}").tobytes()
    else:
        data = packed(values, bits)
    # What does not fit into four bytes stands after the pixels.
    strips = count if planes_apart else 1
    offsets = [8 + len(data) // strips * strip for strip in range(strips)]
    sizes = [len(data) // strips] * strips
    tags: dict[int, tuple[int, list[float]]] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [bits] * count),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, offsets),
        277: (3, [count]),
        278: (4, [height]),
        279: (4, sizes),
        284: (3, [2 if planes_apart else 1]),
        339: (3, [kind] * count),
        **{tag: (code, [value]) for tag, (code, value) in (fields or {}).items()},
    }
    entries = b""
    for tag, (code, numbers) in sorted(tags.items()):
        packed_numbers = struct.pack(
            f"{order}{len(numbers)}{ {3: 'H', 4: 'I', 11: 'f'}[code] }", *numbers
        )
        if len(packed_numbers) > 4:
            where, data = 8 + len(data), data + packed_numbers + b"\0" * (len(packed_numbers) % 2)
            packed_numbers = struct.pack(f"{order}I", where)
        entries += struct.pack(f"{order}HHI", tag, code, len(numbers))
        entries += packed_numbers.ljust(4, b"\0")
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + b"\0\0\0\0"


def png(
    values: np.ndarray, bits: int, significant: int | None = None, exif: Image.Exif | None = None
) -> bytes:
    """A PNG, (h, w) grey, (h, w, 2) with alpha, (h, w, 3) RGB or (h, w, 4) with alpha, which may
    say that only some of its bits are significant."""
    height, width, *channels = values.shape
    count = channels[0] if channels else 1
    rows = values.reshape(height, -1)
    data = rows.astype(">u2").tobytes() if bits == 16 else packed(rows, bits)
    data = b"".join(
        b"\0" + data[start : start + len(data) // height]
        for start in range(0, len(data), len(data) // height)
    )
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[count]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))]
    if significant is not None:
        chunks.append((b"sBIT", bytes([significant] * count)))
    if exif is not None:
        chunks.append((b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")))
    chunks += [(b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def pnm(values: np.ndarray, maxval: int, *, text: bool = False) -> bytes:
    """A PGM, or of (h, w, 3) a PPM; as text or in bytes."""
    height, width, *channels = values.shape
    number = (2 if text else 5) + len(channels)
    head = f"P{number}\n{width} {height}\n{maxval}\n".encode()
    if text:
        return head + " ".join(map(str, values.ravel().tolist())).encode()
    return head + values.astype(np.uint8 if maxval < 256 else ">u2").tobytes()
