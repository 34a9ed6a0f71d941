from __future__ import annotations

import cv2
import numpy as np
import pytest

from rwkv_edge.config import Outside
from rwkv_edge.data.synth import render_clip
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.video.field_of_view import FieldOfView, FieldOfViewTracker

SIZE = (480, 640)


def drawn(shape: str, size: tuple[int, int] = SIZE, shift: int = 0) -> UInt8Array:
    """255 inside the shape."""
    h, w = size
    region = np.zeros(size, np.uint8)
    cx, cy, r = w // 2 + 40 + shift, h // 2, int(0.46 * h)
    if shape == "circle":
        cv2.circle(region, (cx, cy), r, 255, -1)
        return region
    half = r if shape == "octagon" else int(1.1 * r)
    cut = int(0.586 * r) if shape == "octagon" else r // 4
    corners = [(-half, -r + cut), (-half + cut, -r), (half - cut, -r), (half, -r + cut)]
    corners += [(-x, -y) for x, y in corners]
    cv2.fillConvexPoly(region, np.array([(cx + x, cy + y) for x, y in corners], np.int32), 255)
    return region


def picture(region: UInt8Array, seed: int = 0) -> UInt8Array:
    """Tissue in the region, with a dark lumen; noise and a patient's name beside it."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 9, (*region.shape, 3)).astype(np.uint8)
    tissue = rng.normal((60, 80, 150), 12, (*region.shape, 3)).clip(0, 255).astype(np.uint8)
    centre = (region.shape[1] // 2 + 60, region.shape[0] // 2 + 10)
    cv2.circle(tissue, centre, region.shape[0] // 9, (2, 2, 4), -1)
    image[region > 0] = tissue[region > 0]
    cv2.putText(image, "DOE", (8, 40), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255, 255, 255), 2)
    cv2.putText(image, "1970", (8, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (255, 255, 255), 1)
    return image


def overlap(view: FieldOfView, region: UInt8Array) -> float:
    one, other = view.region > 0, region > 0
    return float((one & other).sum() / (one | other).sum())


@pytest.mark.parametrize("size", [SIZE, (1080, 1920), (241, 321)])
@pytest.mark.parametrize("shape", ["circle", "octagon", "cut"])
def test_shapes_are_found(shape: str, size: tuple[int, int]) -> None:
    region = drawn(shape, size)
    view = FieldOfViewTracker().update(picture(region))
    assert view is not None
    assert not view.whole
    assert overlap(view, region) > 0.96
    left, top, width, height = cv2.boundingRect(region)
    np.testing.assert_allclose(view.box, (left, top, width, height), atol=max(3, size[0] // 100))


@pytest.mark.parametrize("shape", ["circle", "octagon", "cut"])
def test_the_name_beside_it_is_cut_and_hidden(shape: str) -> None:
    image = picture(drawn(shape))
    view = FieldOfViewTracker().update(image)
    assert view is not None
    hidden = view.without_outside(image, Outside.BLACK)
    assert image[:90, :90].max() == 255  # the name is there
    assert hidden[:90, :90].max() == 0
    assert view.without_outside(image, Outside.SHOW) is image
    assert view.crop(image).max() < 255
    assert view.crop(image).shape[:2] == (view.box[3], view.box[2])


def sharpest_edge(image: UInt8Array) -> int:
    """The largest step between two neighbouring pixels."""
    return max(int(np.abs(np.diff(image.astype(int), axis=axis)).max()) for axis in (0, 1))


@pytest.mark.parametrize("size", [SIZE, (1080, 1920), (241, 321)])
def test_what_is_blurred_has_no_letters(size: tuple[int, int]) -> None:
    """A reader needs edges; and the means that are left of two names hardly differ."""
    region = drawn("circle", size)
    blurred = []
    for name in ("DOE", "ROY"):
        image = picture(region)
        scale = size[0] / 300
        cv2.putText(image, name, (4, size[0] // 2), cv2.FONT_HERSHEY_DUPLEX, scale, (255,) * 3, 2)
        view = FieldOfViewTracker().update(image)
        assert view is not None
        outside = np.s_[:, : view.box[0]]
        assert sharpest_edge(image[outside]) > 200
        blurred.append(view.without_outside(image, Outside.BLUR))
        assert sharpest_edge(blurred[-1][outside]) <= 8  # of 255
        np.testing.assert_array_equal(blurred[-1][view.region > 0], image[view.region > 0])
    assert np.abs(blurred[0][outside].astype(int) - blurred[1][outside]).max() < 24


def test_a_picture_without_border_is_whole() -> None:
    image = np.full((*SIZE, 3), 120, np.uint8)
    view = FieldOfViewTracker().update(image)
    assert view is not None
    assert view.whole
    assert view.crop(image) is image


def test_in_darkness_there_is_none_and_a_found_one_stays() -> None:
    tracker = FieldOfViewTracker()
    dark = np.zeros((*SIZE, 3), np.uint8)
    assert tracker.update(dark) is None
    region = drawn("circle")
    for _ in range(3):
        found = tracker.update(picture(region))
    for _ in range(500):
        later = tracker.update(dark)
    assert found is not None
    assert later is found


def test_a_still_view_is_never_moved_and_a_smaller_one_is_followed_at_once() -> None:
    tracker = FieldOfViewTracker()
    first = None
    for seed in range(60):
        view = tracker.update(picture(drawn("octagon"), seed))
        first = first or view
        assert view is first
    zoomed = np.zeros((*SIZE, 3), np.uint8)
    cv2.circle(zoomed, (220, 240), 180, (90, 90, 150), -1)
    moved_after = next(count for count in range(1, 3000) if tracker.update(zoomed) is not first)
    assert moved_after == 5


def test_a_larger_picture_is_followed_too() -> None:
    tracker = FieldOfViewTracker()
    small, large = (np.zeros((*SIZE, 3), np.uint8) for _ in range(2))
    cv2.circle(small, (320, 240), 150, (90, 90, 150), -1)
    cv2.circle(large, (320, 240), 220, (90, 90, 150), -1)
    first = [tracker.update(small) for _ in range(50)][-1]
    moved_after = next(count for count in range(1, 1000) if tracker.update(large) is not first)
    assert 90 <= moved_after < 200
    assert overlap(tracker.update(large), (large[..., 2] > 0) * np.uint8(255)) > 0.96


def test_another_size_begins_anew() -> None:
    tracker = FieldOfViewTracker()
    tracker.update(picture(drawn("circle")))
    small = drawn("circle", (240, 320))
    view = tracker.update(picture(small))
    assert view is not None
    assert view.region.shape == (240, 320)
    assert overlap(view, small) > 0.95


def test_probabilities_return_to_their_place() -> None:
    region = drawn("circle")
    view = FieldOfViewTracker().update(picture(region))
    assert view is not None
    _, _, width, height = view.box
    placed = view.place(np.full((1, height, width), 0.9, np.float32))
    assert placed.shape == (1, *SIZE)
    np.testing.assert_array_equal(placed[0] > 0, view.region > 0)
    several = np.zeros((3, height, width), np.float32)
    several[1] = 1
    labels = view.place(several).argmax(0)
    np.testing.assert_array_equal(labels == 1, view.region > 0)  # background outside


def test_rendered_endoscopy() -> None:
    tracker = FieldOfViewTracker()
    frames = [frame.image for frame in render_clip(3, 4, (240, 320), 15)]
    lit = np.max([frame.max(axis=2) for frame in frames], axis=0) > 24
    for frame in frames:
        view = tracker.update(frame)
    assert view is not None
    assert (lit & (view.region > 0)).sum() / lit.sum() > 0.98  # nothing that was lit is lost


@pytest.mark.parametrize("gap", [6, 12, 20])
@pytest.mark.parametrize(("lines", "scale"), [(1, 1.0), (3, 0.5), (3, 0.7), (3, 1.0)])
def test_text_close_to_the_picture_is_no_part_of_it(gap: int, lines: int, scale: float) -> None:
    image = np.zeros((480, 640, 3), np.uint8)
    cv2.circle(image, (400, 240), 210, (60, 80, 150), -1)
    for line in range(lines):
        y = 240 + round(32 * scale * line)
        (width, _), _ = cv2.getTextSize("DOE JANE", cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
        left = 190 - gap - width
        cv2.putText(
            image, "DOE JANE", (left, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 2
        )
    tracker = FieldOfViewTracker()
    for _ in range(5):
        view = tracker.update(image)
    assert view is not None
    text = (image == 255).all(2)
    assert text.any()
    assert not view.without_outside(image, Outside.BLACK)[text].any()


@pytest.mark.parametrize(
    ("when", "frames"),
    [
        *[(0, 1), (0, 2), (0, 3), (0, 10), (0, 11), (0, 99), (0, 200)],
        *[(1, 1), (5, 1), (59, 1), (109, 1), (100, 80), (100, 150)],
    ],
)
@pytest.mark.parametrize("level", [60, 128, 255])
def test_a_menu_or_a_flash_does_not_show_the_name(when: int, frames: int, level: int) -> None:
    """Or a damaged frame, or the screen that a processor starts with; 59 and 109 are looked at."""
    tracker = FieldOfViewTracker()
    normal, flash = picture(drawn("circle")), np.full((*SIZE, 3), level, np.uint8)
    for index in range(300):
        is_flash = when <= index < when + frames
        view = tracker.update(flash if is_flash else normal)
        if tracker.is_settled and not is_flash:
            assert view is not None
            assert not view.whole, index
    assert tracker.is_settled


@pytest.mark.parametrize("rows", [slice(10, 470), slice(40, 440)])
def test_a_screen_with_a_border_of_its_own_does_not_show_the_name(rows: slice) -> None:
    """The second is lower than the picture, which sticks out of it."""
    tracker = FieldOfViewTracker()
    normal, screen = picture(drawn("circle")), np.zeros((*SIZE, 3), np.uint8)
    screen[rows, 4:620] = 150
    for _ in range(150):
        tracker.update(screen)
    for _ in range(150):
        view = tracker.update(normal)
        assert view is not None
        assert not tracker.is_settled or not view.region[:90, :90].any()
    assert tracker.is_settled
    assert overlap(view, drawn("circle")) > 0.96


@pytest.mark.parametrize("soft", [0.05, 0.1, 0.3])
def test_a_shadow_does_not_move_the_view(soft: float) -> None:
    tracker, normal = FieldOfViewTracker(), picture(drawn("octagon"))
    for _ in range(20):
        before = tracker.update(normal)
    light = 1 / (1 + np.exp((np.arange(SIZE[1]) - 360) / (soft * SIZE[0] / 4)))
    shaded = (normal * light[None, :, None]).astype(np.uint8)
    for _ in range(60):
        assert tracker.update(shaded) is before
        assert tracker.is_settled
