"""File formats: whole or refused, and decoded without losing colours or class indices.

OpenCV decodes most of them. Three things it cannot be trusted with are done here: a truncated file,
whose missing half decoders fill with grey; a palette, which it always expands to colours; and TIFF,
since the ones that CVC-ClinicDB circulates as come out of it grey (and out of Pillow not at all).
"""

from __future__ import annotations

import io
import logging
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rwkv_edge.errors import DataError
from rwkv_edge.preprocess import UInt8Array, size_problem

Pixels = NDArray[Any]
"""(h, w) grey or palette indices, (h, w, 3) BGR or (h, w, 4) BGRA, of whatever type is stored."""

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_PALETTE = 3
_JPEG_START, _JPEG_SCAN, _JPEG_END = b"\xff\xd8", 0xFFDA, b"\xff\xd9"
_WEBP_START, _WEBP_LOSSLESS = b"RIFF", b"VP8L"
_EXIF_MARKS = (b"Exif", b"eXIf", b"EXIF")
"""In JPEG, PNG and WebP."""
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TIFF_MINISWHITE, _TIFF_ORIENTATION = 0, 274
_TIFF_COLOURS = (_TIFF_MINISWHITE, 1, 2, 3)
"""Photometric tag: grey two ways, RGB, palette. The rest (YCbCr, CMYK) is left to OpenCV."""
_TIFF_COMPRESSIONS = (1, 8, 32773, 32946)
"""None, Deflate, PackBits: what tifffile undoes alone. The rest (LZW, JPEG) is left to OpenCV."""

# without a handler of its own, tifffile's log of a damaged file would go to standard error
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def is_whole(content: bytes) -> bool:
    """Tell whether a file is as long as it says and its checksums hold; True where none can say."""
    try:
        if content.startswith(_PNG_START):
            return any(name == b"IEND" for name, _ in _png_chunks(content))
        if content.startswith(_JPEG_START):
            # cameras pad a file after its end marker, so the marker need not come last
            return content.find(_JPEG_END, _jpeg_scan(content)) > 0
        if content.startswith(b"BM"):
            return len(content) >= _bmp_length(content)
        if content.startswith(_WEBP_START):
            return len(content) >= 8 + int(struct.unpack_from("<I", content, 4)[0])
    except struct.error:  # it ends inside a header
        return False
    return True


def is_lossy(content: bytes) -> bool:
    """Tell whether a file's format changes levels: JPEG, or lossy WebP."""
    if content.startswith(_WEBP_START):
        return _WEBP_LOSSLESS not in _webp_chunks(content)
    return content.startswith(_JPEG_START)


def _webp_chunks(content: bytes) -> Iterator[bytes]:
    """Yield the name of each chunk; metadata may come before the pixels."""
    position = 12
    while position + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, position)
        yield name
        position += 8 + length + length % 2


def decode_image(content: bytes) -> Pixels:
    """Decode a picture; palettes become colours.

    Raises:
        DataError: damaged, not an image, too small or too large; the message lacks the file's name.
    """
    if not content.startswith(_TIFF_STARTS):
        return _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    pixels, palette = _decode_tiff(content)
    return pixels if palette is None else palette[pixels]


def decode_mask(content: bytes) -> tuple[Pixels, UInt8Array | None]:
    """Decode a mask as it is stored.

    Returns:
        The pixels and None; or, for a PNG or TIFF with a palette, (h, w) indices and the
        (colours, 3) BGR palette.

    Raises:
        DataError: as `decode_image`; or its Exif says that it lies on its side.
    """
    if content.startswith(_TIFF_STARTS):
        return _decode_tiff(content, allow_inverted=False)
    pixels = _decode(content, cv2.IMREAD_UNCHANGED)
    if _is_turned(content):
        raise DataError("its Exif orientation turns it; save the mask upright, without the tag")
    if content.startswith(_PNG_START):
        chunks = list(_png_chunks(content))
        bits, colour_type = chunks[0][1][8:10]
        if colour_type == _PNG_PALETTE:
            palette = np.frombuffer(dict(chunks)[b"PLTE"], np.uint8).reshape(-1, 3)
            return _decode_png_indices(chunks, bits), palette[:, ::-1]
    return pixels, None


def _is_turned(content: bytes) -> bool:
    """Tell whether Exif turns it, which OpenCV heeds in pictures but not with IMREAD_UNCHANGED."""
    if not any(mark in content for mark in _EXIF_MARKS):
        return False
    shown = _decode(content, cv2.IMREAD_COLOR)
    stored = _decode(content, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return not np.array_equal(shown, stored)


def _check_size(height: int, width: int) -> None:
    if problem := size_problem(height, width):
        raise DataError(problem)


def _decode(content: bytes, flags: int) -> Pixels:
    if content.startswith(_PNG_START) and content[12:16] == b"IHDR":
        # a small file may claim gigabytes
        width, height = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
        _check_size(height, width)
    # OpenCV logs to standard error what we raise anyway, and every TIFF tag that it does not know
    log = cv2.utils.logging
    level = log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error:
        pixels = None
    finally:
        log.setLogLevel(level)
    if pixels is None or pixels.size == 0:
        raise DataError("not an image that can be decoded")
    _check_size(*pixels.shape[:2])
    return pixels


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and data of each chunk, up to IEND or the first that is cut or damaged."""
    position = len(_PNG_START)
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        end = position + 8 + length
        body = content[position + 4 : end]
        if content[end : end + 4] != _checksum(body):
            return
        yield body[:4], body[4:]
        if body[:4] == b"IEND":  # what lies behind it is no chunk
            return
        position = end + 4


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(4, "big")


def _decode_png_indices(chunks: list[tuple[bytes, bytes]], bits: int) -> Pixels:
    """Decode a PNG with a palette as if it were grey, which differs in the header alone."""
    header = chunks[0][1]
    parts = [b"IHDR" + header[:9] + b"\0" + header[10:]]
    parts += [name + data for name, data in chunks if name in (b"IDAT", b"IEND")]
    content = _PNG_START + b"".join(
        struct.pack(">I", len(part) - 4) + part + _checksum(part) for part in parts
    )
    stretch = np.uint8(255 // (2**bits - 1))  # OpenCV brings greys of 1, 2, 4 bits to 0..255
    indices: Pixels = _decode(content, cv2.IMREAD_UNCHANGED) // stretch
    return indices


def _jpeg_scan(content: bytes) -> int:
    """Return where the pixels start, behind metadata with thumbnails and their end markers."""
    position = 2
    while True:
        marker, length = struct.unpack_from(">HH", content, position)
        if marker == _JPEG_SCAN or marker < 0xFF00:
            return position
        position += 1 if marker == 0xFFFF else 2 + length  # 0xFFFF: a fill byte


def _bmp_length(content: bytes) -> int:
    """Return the least length of a BMP; its own field for that is often wrong."""
    start, header = struct.unpack_from("<II", content, 10)
    if header < 40:  # the OS/2 forms of the last century
        return int(start)
    width, height, _, bits, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression in (1, 2):  # run lengths
        return int(start)
    return int(start + (width * bits + 31) // 32 * 4 * abs(height))


def _decode_tiff(
    content: bytes, *, allow_inverted: bool = True
) -> tuple[Pixels, UInt8Array | None]:
    """Decode the first page, as `decode_mask` does."""
    import tifffile

    problem = "not a TIFF that can be decoded"
    try:
        with tifffile.TiffFile(io.BytesIO(content)) as file:
            page: Any = file.pages[0]
            _check_size(page.imagelength, page.imagewidth)  # a small file may claim gigabytes
            if page.tags.valueof(_TIFF_ORIENTATION, 1) != 1:  # OpenCV heeds it, tifffile does not
                raise DataError("its orientation tag turns it; save it upright, without the tag")
            if page.photometric == _TIFF_MINISWHITE and not allow_inverted:
                # tifffile marks boolean masks so, yet means 1 by lesion; scanners mean 0
                raise DataError("a TIFF mask that calls 0 white; store it as PNG")
            sizes = zip(page.dataoffsets, page.databytecounts, strict=True)
            if max(start + size for start, size in sizes) > len(content):
                raise DataError("the file is truncated; copy it again from its source")
            if page.compression not in _TIFF_COMPRESSIONS or page.photometric not in _TIFF_COLOURS:
                pixels = _decode(content, cv2.IMREAD_UNCHANGED)
                if pixels.ndim == 2 and page.samplesperpixel > 2:
                    raise DataError(f"{problem} in colour; save it without compression")
                return pixels, None
            pixels = page.asarray()
            if pixels.size == 0:
                raise DataError(problem)
    except DataError:
        raise
    except Exception as error:  # tifffile raises many types on damaged files
        raise DataError(problem) from error
    if page.axes == "SYX":  # one plane after the other
        pixels = np.moveaxis(pixels, 0, 2)
    elif page.axes not in ("YX", "YXS"):
        raise DataError("a stack of pictures, not one")
    if page.photometric == _TIFF_MINISWHITE:
        pixels = np.invert(pixels)
    if pixels.ndim == 3:  # RGB(A) to BGR(A), or grey with transparency to grey
        planes = [2, 1, 0, 3][: pixels.shape[2]] if pixels.shape[2] > 2 else 0
        pixels = pixels[:, :, planes]
    if page.colormap is None:
        return pixels, None
    return pixels, (page.colormap[::-1].T >> 8).astype(np.uint8)
