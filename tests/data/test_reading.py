from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from rwkv_edge.data.reading import changes_levels, read_image, read_mask
from rwkv_edge.errors import DataError
from tests.data.pictures import (
    VOC_PALETTE,
    disc,
    exif,
    picture,
    png_chunk,
    save,
    save_palette_png,
    save_turned,
)

SUFFIXES = (".jpg", ".png", ".bmp", ".webp", ".tif")
RGB = picture()[:, :, ::-1]
LABELS = (np.indices((48, 64)).sum(axis=0) // 8 % 4).astype(np.uint8)  # 0 to 3

TIFFS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rgb": (RGB, {"photometric": "rgb"}),
    "rgba": (np.dstack([RGB, disc()]), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    "16 bits": (RGB.astype(np.uint16) * 257, {"photometric": "rgb"}),
    "12 bits": (RGB.astype(np.uint16) * 16, {"photometric": "rgb"}),
    "big-endian": (RGB.astype(np.uint16) * 257, {"photometric": "rgb", "byteorder": ">"}),
    "deflate": (RGB, {"photometric": "rgb", "compression": "zlib"}),
    "tiles": (RGB, {"photometric": "rgb", "tile": (16, 16)}),
    "planar": (np.moveaxis(RGB, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    # three samples that call themselves grey: OpenCV reads them grey, Pillow not at all
    "CVC-ClinicDB": (RGB, {"photometric": "minisblack", "planarconfig": "contig"}),
    "CVC-ClinicDB, planar": (
        np.moveaxis(RGB, 2, 0),
        {"photometric": "minisblack", "planarconfig": "separate"},
    ),
}


def refusal(path: Path, read: Any = read_image) -> str:
    """The message of the error that reading raises: one line that names the file."""
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


class TestImages:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_lossless_formats_come_back_to_the_bit(self, tmp_path: Path, suffix: str) -> None:
        path = save(tmp_path / f"a{suffix}", picture())
        np.testing.assert_array_equal(read_image(path), picture())

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_lossy_formats_come_back_nearly(self, tmp_path: Path, suffix: str) -> None:
        path = save(tmp_path / f"a{suffix}", picture())
        assert np.abs(read_image(path).astype(int) - picture()).mean() < 3

    @pytest.mark.parametrize("form", TIFFS)
    def test_tiff_in_colour_and_without_a_word(
        self, tmp_path: Path, form: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        pixels, options = TIFFS[form]
        tifffile.imwrite(tmp_path / "a.tif", pixels, **options)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), picture())
        assert capfd.readouterr() == ("", "")

    def test_jpeg_inside_tiff(self, tmp_path: Path) -> None:
        jpeg = (cv2.IMWRITE_TIFF_COMPRESSION, 7, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 48)
        path = save(tmp_path / "a.tif", picture(), *jpeg)
        assert np.abs(read_image(path).astype(int) - picture()).mean() < 8

    def test_tiff_with_white_as_zero(self, tmp_path: Path) -> None:
        grey = picture()[:, :, 1]
        tifffile.imwrite(tmp_path / "a.tif", 255 - grey, photometric="miniswhite")
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[:, :, 0], grey)

    def test_tiff_with_a_palette(self, tmp_path: Path) -> None:
        colours = np.random.default_rng(0).integers(0, 2**16, (3, 256), np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", LABELS, photometric="palette", colormap=colours)
        expected = (colours[::-1, LABELS] >> 8).transpose(1, 2, 0)
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)

    def test_grey_becomes_three_equal_planes(self, tmp_path: Path) -> None:
        for suffix in SUFFIXES:
            image = read_image(save(tmp_path / f"a{suffix}", picture()[:, :, 1]))
            assert image.shape == (48, 64, 3)
            assert np.ptp(image, axis=2).max() <= 2

    def test_transparency_is_dropped(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", np.dstack([picture(), disc()]))
        np.testing.assert_array_equal(read_image(path), picture())

    def test_sixteen_bits_become_eight(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", picture().astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_image(path), picture())

    def test_a_wrong_suffix_does_not_matter(self, tmp_path: Path) -> None:
        save(tmp_path / "a.png", picture()).rename(tmp_path / "a.jpg")
        np.testing.assert_array_equal(read_image(tmp_path / "a.jpg"), picture())

    def test_padding_behind_a_jpeg_is_no_damage(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.jpg", picture())
        path.write_bytes(path.read_bytes() + bytes(100_000))
        assert read_image(path).shape == (48, 64, 3)


class TestBadFiles:
    @pytest.mark.parametrize("suffix", SUFFIXES)
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
    def test_truncated(
        self, tmp_path: Path, suffix: str, share: float, capfd: pytest.CaptureFixture[str]
    ) -> None:
        path = save(tmp_path / f"a{suffix}", picture(200, 240))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        for read in (read_image, read_mask):
            message = refusal(path, read)
            assert "truncated" in message or "decoded" in message
        assert capfd.readouterr() == ("", "")

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("share", [0.1, 0.6, 0.99])
    def test_truncated_tiff(
        self,
        tmp_path: Path,
        compression: str | None,
        share: float,
        capfd: pytest.CaptureFixture[str],
    ) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, RGB, photometric="rgb", compression=compression)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        refusal(path)
        assert capfd.readouterr() == ("", "")

    def test_truncated_jpeg_with_a_whole_thumbnail(self, tmp_path: Path) -> None:
        thumbnail = save(tmp_path / "small.jpg", picture(16, 16)).read_bytes()
        path = save(tmp_path / "a.jpg", picture(200, 240))
        content = path.read_bytes()
        segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
        path.write_bytes(content[:2] + segment + content[2:])
        assert read_image(path).shape == (200, 240, 3)
        path.write_bytes(content[:2] + segment + content[2 : len(content) // 2])
        assert "truncated" in refusal(path)

    def test_a_flipped_bit_in_a_png(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.png", picture())
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        assert "damaged" in refusal(path)

    @pytest.mark.parametrize("suffix", SUFFIXES)
    def test_text(self, tmp_path: Path, suffix: str) -> None:
        (tmp_path / f"a{suffix}").write_text("these are not pixels")
        assert "not an image" in refusal(tmp_path / f"a{suffix}")

    def test_zero_bytes(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").touch()
        assert "the file is empty (0 bytes)" in refusal(tmp_path / "a.png")
        assert "the file is empty (0 bytes)" in refusal(tmp_path / "a.png", read_mask)

    def test_missing(self, tmp_path: Path) -> None:
        assert "No such file" in refusal(tmp_path / "a.png")

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        assert "Is a directory" in refusal(tmp_path / "a.png")

    def test_one_pixel(self, tmp_path: Path) -> None:
        message = refusal(save(tmp_path / "a.png", picture(1, 1)))
        assert "1 x 1 pixels is too small to segment; at least 8 x 8 are needed" in message

    @pytest.mark.parametrize("read", [read_image, read_mask])
    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_a_tiff_that_claims_gigabytes_is_not_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, compression: str | None
    ) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, disc(), photometric="minisblack", compression=compression)
        with tifffile.TiffFile(path, mode="r+b") as file:
            file.pages[0].tags["ImageLength"].overwrite(14_090_264)
        monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: pytest.fail("decoded"))
        assert "64 x 14090264 pixels is too large" in refusal(path, read)

    @pytest.mark.parametrize("read", [read_image, read_mask])
    def test_a_png_that_claims_gigabytes_is_not_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
    ) -> None:
        content = save(tmp_path / "a.png", disc()).read_bytes()
        header = b"IHDR" + struct.pack(">II", 30_000, 20_000) + content[24:29]
        (tmp_path / "a.png").write_bytes(content[:8] + png_chunk(header) + content[33:])
        monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
        assert "30000 x 20000 pixels is too large" in refusal(tmp_path / "a.png", read)

    def test_a_mask_of_one_pixel(self, tmp_path: Path) -> None:
        message = refusal(save(tmp_path / "a.bmp", disc(1, 1)), read_mask)
        assert "1 x 1 pixels is too small" in message

    @pytest.mark.parametrize("chunks", [b"", b"IEND", b"IHDR", b"IHDR IEND"])
    def test_a_png_without_pixels(self, tmp_path: Path, chunks: bytes) -> None:
        parts = b"".join(map(png_chunk, chunks.split()))
        (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        for read in (read_image, read_mask):
            refusal(tmp_path / "a.png", read)

    def test_floating_point(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", RGB.astype(np.float32), photometric="rgb")
        assert "pixels of type float32" in refusal(tmp_path / "a.tif")

    def test_mislabelled_tiff_that_only_opencv_could_decode(self, tmp_path: Path) -> None:
        """OpenCV alone undoes LZW, and would read these three samples as grey."""
        path = save(tmp_path / "a.tif", picture())
        with tifffile.TiffFile(path) as file:
            place = file.pages[0].tags["PhotometricInterpretation"].valueoffset
        content = bytearray(path.read_bytes())
        content[place] = 1
        path.write_bytes(content)
        assert "in colour; save it without compression" in refusal(path)


class TestMasks:
    @pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
    def test_as_stored(self, tmp_path: Path, suffix: str) -> None:
        np.testing.assert_array_equal(read_mask(save(tmp_path / f"a{suffix}", disc())), disc())
        np.testing.assert_array_equal(read_mask(save(tmp_path / f"b{suffix}", LABELS)), LABELS)

    def test_jpeg_noise(self, tmp_path: Path) -> None:
        colour = np.repeat(disc()[:, :, None], 3, axis=2)
        mask = read_mask(save(tmp_path / "a.jpg", colour, cv2.IMWRITE_JPEG_QUALITY, 60))
        assert mask.shape == (48, 64)
        np.testing.assert_array_equal(mask > 127, disc() > 127)

    @pytest.mark.parametrize("bits", [2, 4, 8])
    def test_palette_of_colours_gives_indices(self, tmp_path: Path, bits: int) -> None:
        path = save_palette_png(tmp_path / "a.png", LABELS, VOC_PALETTE, bits)
        np.testing.assert_array_equal(read_mask(path), LABELS)

    def test_palette_of_one_bit(self, tmp_path: Path) -> None:
        lesion = disc() // 255
        path = save_palette_png(tmp_path / "a.png", lesion, VOC_PALETTE[:2], bits=1)
        np.testing.assert_array_equal(read_mask(path), lesion)

    def test_palette_of_greys_gives_greys(self, tmp_path: Path) -> None:
        white_first = save_palette_png(
            tmp_path / "a.png", 1 - disc() // 255, [(255, 255, 255), (0, 0, 0)], bits=1
        )
        np.testing.assert_array_equal(read_mask(white_first), disc())

    def test_palette_in_tiff(self, tmp_path: Path) -> None:
        colours = np.zeros((3, 256), np.uint16)
        colours[:, :4] = np.array(VOC_PALETTE, np.uint16).T * 257
        tifffile.imwrite(tmp_path / "a.tif", LABELS, photometric="palette", colormap=colours)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), LABELS)

    def test_void_in_a_palette_is_refused(self, tmp_path: Path) -> None:
        palette = VOC_PALETTE + [(224, 224, 192)] * 252
        path = save_palette_png(tmp_path / "a.png", disc(), palette)
        assert "palette index 255" in refusal(path, read_mask)

    def test_sixteen_bits(self, tmp_path: Path) -> None:
        indices = save(tmp_path / "indices.png", LABELS.astype(np.uint16))
        np.testing.assert_array_equal(read_mask(indices), LABELS)
        greys = save(tmp_path / "greys.png", disc().astype(np.uint16) * 257)
        np.testing.assert_array_equal(read_mask(greys), disc())
        odd = save(tmp_path / "odd.png", LABELS.astype(np.uint16) * 100)
        assert "values up to 300" in refusal(odd, read_mask)

    def test_booleans(self, tmp_path: Path) -> None:
        path = tmp_path / "a.tif"
        tifffile.imwrite(path, disc() > 0, photometric="minisblack")
        np.testing.assert_array_equal(read_mask(path), disc())

    def test_zero_as_white_is_refused(self, tmp_path: Path) -> None:
        """Without a word, tifffile stores booleans so; it may mean either."""
        tifffile.imwrite(tmp_path / "a.tif", disc() > 0)
        assert "calls 0 white" in refusal(tmp_path / "a.tif", read_mask)

    @pytest.mark.parametrize("more", [b"\n", b"abc", bytes(100)])
    @pytest.mark.parametrize("palette", [False, True])
    def test_bytes_behind_a_png(self, tmp_path: Path, more: bytes, palette: bool) -> None:
        path = tmp_path / "a.png"
        if palette:
            save_palette_png(path, LABELS, VOC_PALETTE)
        else:
            save(path, LABELS)
        path.write_bytes(path.read_bytes() + more)
        np.testing.assert_array_equal(read_mask(path), LABELS)

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
    def test_turned_by_exif(self, tmp_path: Path, suffix: str) -> None:
        """OpenCV would turn an image with this tag, and leave its mask as it lies."""
        upright = save_turned(tmp_path / f"upright{suffix}", disc(), 1)
        np.testing.assert_array_equal(read_mask(upright) > 127, disc() > 127)
        for orientation in (3, 6):
            path = save_turned(tmp_path / f"a{suffix}", disc(), orientation)
            assert "save the mask upright" in refusal(path, read_mask)
        assert read_image(path).shape == (64, 48, 3)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("read", [read_image, read_mask])
    def test_a_turned_tiff(self, tmp_path: Path, read: Any, compression: str | None) -> None:
        path = tmp_path / "a.tif"
        tag = (274, "H", 1, 6, True)
        tifffile.imwrite(
            path, disc(), extratags=[tag], compression=compression, photometric="minisblack"
        )
        assert "save it upright" in refusal(path, read)

    @pytest.mark.parametrize(("quality", "lossy"), [(80, True), (101, False)])
    def test_webp_with_metadata(self, tmp_path: Path, quality: int, lossy: bool) -> None:
        """A header (VP8X) comes first then, and says neither."""
        whole = cv2.imencode(".webp", picture(), [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        path = tmp_path / "a.webp"
        parts = b"VP8X" + struct.pack("<I", 10) + bytes(10) + whole[12:]
        path.write_bytes(b"RIFF" + struct.pack("<I", len(parts) + 4) + b"WEBP" + parts)
        assert changes_levels(path) is lossy

    def test_exif_on_a_palette(self, tmp_path: Path) -> None:
        path = save_palette_png(tmp_path / "a.png", LABELS, VOC_PALETTE)
        content = path.read_bytes()
        path.write_bytes(content[:33] + png_chunk(b"eXIf" + exif(8)) + content[33:])
        assert "save the mask upright" in refusal(path, read_mask)

    @pytest.mark.parametrize("channel", [0, 1, 2])
    def test_dark_colours(self, tmp_path: Path, channel: int) -> None:
        """The first colours of VOC's palette differ from black in one channel alone."""
        colour = np.zeros((48, 64, 3), np.uint8)
        colour[:, :, channel] = LABELS
        np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", colour)), LABELS)

    def test_colours_are_refused(self, tmp_path: Path) -> None:
        assert "a coloured mask" in refusal(save(tmp_path / "a.png", picture()), read_mask)

    def test_opaque_is_fine_and_transparent_is_refused(self, tmp_path: Path) -> None:
        grey, opaque = disc(), np.full_like(disc(), 255)
        path = save(tmp_path / "a.png", np.dstack([grey, grey, grey, opaque]))
        np.testing.assert_array_equal(read_mask(path), grey)
        path = save(tmp_path / "b.png", np.dstack([opaque, opaque, opaque, grey]))
        assert "a transparent mask" in refusal(path, read_mask)
