from __future__ import annotations

import cv2
import numpy as np
import pytest

from rwkv_edge.errors import UsageError
from rwkv_edge.preprocess import (
    Component,
    Letterbox,
    check_input_size,
    find_components,
    to_input,
    to_mask,
)

SIZES = [(8, 8), (9, 640), (640, 9), (287, 385), (288, 384), (531, 623), (1080, 1921), (256, 256)]
INPUTS = [(256, 256), (192, 320), (320, 192)]
EVERY = [(frame, target) for frame in SIZES for target in INPUTS]


def ramp(height: int, width: int) -> np.ndarray:
    """(2, height, width) float32: each pixel's own row and column, as shares of the frame."""
    y = (np.arange(height, dtype=np.float32) + 0.5) / height
    x = (np.arange(width, dtype=np.float32) + 0.5) / width
    return np.stack(np.broadcast_arrays(y[:, None], x[None]))


class TestLetterbox:
    @pytest.mark.parametrize(("frame", "target"), EVERY)
    def test_fits_centred_with_its_aspect(
        self, frame: tuple[int, int], target: tuple[int, int]
    ) -> None:
        box = Letterbox.fit(frame, target)
        assert box.height == target[0] or box.width == target[1]
        assert abs(2 * box.top + box.height - target[0]) <= 1
        assert abs(2 * box.left + box.width - target[1]) <= 1
        scale = min(target[0] / frame[0], target[1] / frame[1])
        assert abs(box.height - frame[0] * scale) <= 0.5
        assert abs(box.width - frame[1] * scale) <= 0.5

    def test_never_vanishes(self) -> None:
        assert Letterbox.fit((10_000, 8), (16, 16)).width == 1

    @pytest.mark.parametrize(("frame", "target"), EVERY)
    def test_restore_puts_every_pixel_where_it_came_from(
        self, frame: tuple[int, int], target: tuple[int, int]
    ) -> None:
        """A ramp is linear, so bilinear resizing must give back each pixel's own position."""
        box = Letterbox.fit(frame, target)
        probability = np.full((2, *target), np.nan, np.float32)
        probability[:, box.inside[0], box.inside[1]] = ramp(box.height, box.width)
        restored = box.restore(probability)
        assert restored.shape == (2, *frame)
        assert restored.dtype == np.float32
        # beyond the outermost centres there is nothing to interpolate with
        edge = np.array([0.5 / box.height, 0.5 / box.width], np.float32)[:, None, None]
        np.testing.assert_allclose(restored, ramp(*frame).clip(edge, 1 - edge), atol=2e-4)

    @pytest.mark.parametrize(("frame", "target"), EVERY)
    def test_apply_and_restore_keep_a_smooth_picture(
        self, frame: tuple[int, int], target: tuple[int, int]
    ) -> None:
        y, x = ramp(*frame)
        picture = (100 + 60 * y + 60 * x).astype(np.uint8)
        box = Letterbox.fit(frame, target)
        restored = box.restore(box.apply(picture)[None].astype(np.float32))[0]
        assert np.abs(restored - picture).max() <= 1.5 + 120 / min(box.height, box.width)

    def test_black_around(self) -> None:
        white = np.full((30, 60, 3), 255, np.uint8)
        wide = Letterbox.fit((30, 60), (64, 64)).apply(white)
        assert wide[:16].max() == wide[48:].max() == 0
        assert wide[16:48].min() == 255
        tall = Letterbox.fit((60, 30), (64, 64)).apply(white.transpose(1, 0, 2).copy())
        assert tall[:, :16].max() == tall[:, 48:].max() == 0
        assert tall[:, 16:48].min() == 255

    def test_the_same_size_is_the_same_picture(self) -> None:
        picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        box = Letterbox.fit((48, 64), (48, 64))
        np.testing.assert_array_equal(box.apply(picture), picture)
        plane = picture[None, :, :, 0].astype(np.float32)
        np.testing.assert_array_equal(box.restore(plane), plane)

    @pytest.mark.parametrize("channels", [(), (1,), (3,), (4,)])
    def test_any_number_of_channels(self, channels: tuple[int, ...]) -> None:
        picture = np.ones((20, 30, *channels), np.uint8)
        assert Letterbox.fit((20, 30), (64, 64)).apply(picture).shape == (64, 64, *channels)

    def test_nearest_makes_no_new_labels(self) -> None:
        labels = np.random.default_rng(0).integers(0, 3, (97, 61), np.uint8) * np.uint8(7)
        box = Letterbox.fit((97, 61), (64, 64))
        small = box.apply(labels, interpolation=cv2.INTER_NEAREST)
        assert set(np.unique(small)) == {0, 7, 14}


def test_to_input() -> None:
    frame = np.full((30, 60, 3), (1, 2, 3), np.uint8)
    batch, box = to_input(frame, (64, 64))
    assert batch.shape == (1, 64, 64, 3)
    assert batch.dtype == np.uint8
    assert batch[0, 32, 32].tolist() == [1, 2, 3]
    assert box.frame_size == (30, 60)


@pytest.mark.parametrize(("height", "width"), [(0, 256), (250, 256), (256, -16), (256, 8)])
def test_sizes_that_the_network_cannot_take(height: int, width: int) -> None:
    with pytest.raises(UsageError, match="is not a positive multiple of 16; try"):
        check_input_size(height, width)


def test_sizes_that_it_can() -> None:
    check_input_size(16, 1024)


class TestToMask:
    def test_binary_reaches_the_confidence(self) -> None:
        probability = np.array([[[0.0, 0.49, 0.5, 1.0]]], np.float32)
        assert to_mask(probability, 0.5).tolist() == [[0, 0, 1, 1]]
        assert to_mask(probability, 0.6).tolist() == [[0, 0, 0, 1]]
        assert to_mask(probability, 0.5).dtype == np.uint8

    def test_classes(self) -> None:
        pixels = [
            (0.6, 0.3, 0.1),  # background
            (0.1, 0.7, 0.2),
            (0.1, 0.2, 0.7),
            (0.30, 0.36, 0.34),  # the likeliest class, but not confident
            (0.5, 0.5, 0.0),  # no likelier than the background
        ]
        probability = np.array(pixels, np.float32).T[:, None]
        assert to_mask(probability, 0.5).tolist() == [[0, 1, 2, 0, 0]]
        assert to_mask(probability, 0.35).tolist() == [[0, 1, 2, 1, 0]]


class TestComponents:
    def test_binary(self) -> None:
        mask = np.zeros((20, 30), np.uint8)
        mask[2:5, 3:9] = 1
        mask[10:16, 10:20] = 1
        mask[16, 20] = 1  # touches at a corner: the same region
        probability = np.where(mask, np.float32(0.75), np.float32(0.1))[None]
        probability[0, 2:5, 3:6] = 0.55
        large, small = find_components(mask, probability)
        assert large == Component(1, 61, (10, 10, 11, 7), pytest.approx(0.75))
        assert small == Component(1, 18, (3, 2, 6, 3), pytest.approx(0.65))

    def test_classes_side_by_side_are_apart(self) -> None:
        mask = np.zeros((8, 12), np.uint8)
        mask[:, :4], mask[:, 4:6] = 2, 1
        probability = np.stack([np.full((8, 12), p, np.float32) for p in (0.1, 0.3, 0.6)])
        found = find_components(mask, probability)
        assert [(c.label, c.area, c.box) for c in found] == [
            (2, 32, (0, 0, 4, 8)),
            (1, 16, (4, 0, 2, 8)),
        ]
        assert [c.confidence for c in found] == pytest.approx([0.6, 0.3])

    def test_none(self) -> None:
        assert find_components(np.zeros((8, 8), np.uint8), np.zeros((1, 8, 8), np.float32)) == []
