from __future__ import annotations

import numpy as np
import pytest

from rwkv_edge.config import Outside
from rwkv_edge.preprocess import Component
from rwkv_edge.video.base import Frame
from rwkv_edge.video.field_of_view import FieldOfView, FieldOfViewTracker
from rwkv_edge.video.outside import hide_outside, hide_outside_result
from rwkv_edge.video.result import Result
from tests.video.test_field_of_view import drawn, picture


@pytest.fixture
def frame() -> Frame:
    return Frame(0, 0.0, picture(drawn("octagon")), "0")


@pytest.fixture
def view(frame: Frame) -> FieldOfView:
    found = FieldOfViewTracker().update(frame.image)
    assert found is not None
    return found


@pytest.mark.parametrize("outside", [Outside.BLUR, Outside.BLACK, Outside.CROP])
def test_before_a_field_of_view_is_known_nothing_is_seen(
    frame: Frame, view: FieldOfView, outside: Outside
) -> None:
    smaller = Frame(1, 0.0, np.ascontiguousarray(frame.image[::2, ::2]), "1")
    for hidden in (hide_outside(frame, None, outside), hide_outside(smaller, view, outside)):
        assert hidden.image.max() == 0
    assert hide_outside(frame, None, Outside.SHOW) is frame


def test_mask_and_boxes_follow_the_crop(frame: Frame, view: FieldOfView) -> None:
    mask = np.zeros(frame.image.shape[:2], np.uint8)
    mask[200:220, 300:340] = 1
    found = Component(1, 800, (300, 200, 40, 20), 0.9)
    result = Result(frame, mask, [found], ["polyp"], True, {}, view)
    cropped = hide_outside_result(result, Outside.CROP)
    assert cropped.frame.image.shape[:2] == cropped.mask.shape == (view.box[3], view.box[2])
    left, top, width, height = cropped.components[0].box
    assert cropped.mask[top : top + height, left : left + width].all()
    assert cropped.mask.sum() == width * height == 800
    for outside in (Outside.SHOW, Outside.BLUR, Outside.BLACK):
        kept = hide_outside_result(result, outside)
        assert kept.mask is mask
        assert kept.components == [found]
