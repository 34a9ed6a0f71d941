from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.drawing import mark_research_use
from rwkv_edge.preprocess import Component
from rwkv_edge.video import Frame, Result
from rwkv_edge.video.overlay import draw_overlay
from tests.video.clips import Image


def make_result(size: tuple[int, int], box: tuple[int, int, int, int] | None = None) -> Result:
    image = np.full((*size, 3), (60, 80, 150), np.uint8)
    mask = np.zeros(size, np.uint8)
    components = []
    if box is not None:
        left, top, width, height = box
        mask[top : top + height, left : left + width] = 1
        components.append(Component(1, width * height, box, 0.91))
    return Result(Frame(0, 0.0, image, "x"), mask, components, ("polyp",), True, {})


def changed(before: Image, after: Image) -> Image:
    return np.any(before != after, axis=2)


@pytest.mark.parametrize("size", [(256, 256), (480, 640), (1080, 1920), (240, 1200), (49, 67)])
def test_the_notice_is_on_every_frame(size: tuple[int, int]) -> None:
    result = make_result(size)
    drawn = draw_overlay(result)
    notice = np.full(drawn.shape, (60, 80, 150), np.uint8)
    mark_research_use(notice)
    assert np.count_nonzero(notice.min(axis=2) > 240) > 100
    np.testing.assert_array_equal(drawn, notice)  # and nothing else where nothing was found


@pytest.mark.parametrize("size", [(256, 256), (1080, 1920)])
def test_size_is_kept(size: tuple[int, int]) -> None:
    assert draw_overlay(make_result(size)).shape == (*size, 3)


def test_a_tiny_frame_is_enlarged_by_a_whole_number() -> None:
    result = make_result((48, 64), box=(20, 16, 16, 12))
    drawn = draw_overlay(result, alpha=1.0)
    assert drawn.shape == (192, 256, 3)
    assert changed(drawn, np.broadcast_to(drawn[100, 10], drawn.shape))[80, 96]


def test_a_narrow_strip_does_not_explode() -> None:
    assert draw_overlay(make_result((3000, 8))).shape == (3000, 8, 3)


def test_head_stands_in_the_upper_left_corner() -> None:
    result = make_result((480, 640))
    drawn = draw_overlay(result, ["31.2 fps  12 ms", "a backend with a rather long name " * 4])
    rows, columns = np.nonzero(changed(drawn, draw_overlay(result)))
    assert rows.max() < 60
    assert columns.min() < 20
    assert columns.max() < 640  # too long a line is made smaller


@pytest.mark.parametrize("box", [(200, 200, 80, 60), (0, 0, 80, 60), (600, 0, 40, 40)])
def test_confidence_stands_beside_the_box(box: tuple[int, int, int, int]) -> None:
    result = make_result((480, 640), box)
    drawn = draw_overlay(result, ["30.0 fps"], alpha=0)
    result.components = []
    rows, columns = np.nonzero(changed(drawn, draw_overlay(result, ["30.0 fps"], alpha=0)))
    left, top, _, height = box
    assert len(rows) > 100
    assert top - 30 <= rows.min() <= rows.max() <= top + height
    assert columns.max() >= left
    assert columns.max() - columns.min() < 120


def test_alpha() -> None:
    result = make_result((256, 256), box=(100, 100, 60, 60))
    inside = [draw_overlay(result, alpha=alpha)[130, 140].astype(int) for alpha in (0, 0.5, 1)]
    np.testing.assert_array_equal(inside[0], result.frame.image[130, 140])
    np.testing.assert_allclose(inside[1], (inside[0] + inside[2]) / 2, atol=1)
    assert np.abs(inside[2] - inside[0]).max() > 50
