"""The procedural generator: exact labels, seeded pixels, coherent clips."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.data.synth import SynthFrame, render_clip, render_image, write_dataset
from rwkv_edge.data.synth.compose import Shot, compose_still
from rwkv_edge.data.synth.march import trace
from rwkv_edge.data.synth.scene import photograph
from rwkv_edge.errors import OutputError, UsageError

SIZE = (96, 96)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


def light_of(shot: Shot) -> tuple[np.ndarray, np.ndarray]:
    """Linear light and owners, before exposure, noise and compression."""
    return photograph(shot.scene, shot.path.pose(0.0), shot.lens, *shot.view.shape)


@pytest.fixture(scope="module")
def gallery() -> list[SynthFrame]:
    return [render_image(seed, SIZE) for seed in range(16)]


@pytest.fixture(scope="module")
def clip() -> list[SynthFrame]:
    return list(render_clip(7, 8, (120, 160), fps=25.0, polyps=1))


def test_same_seed_gives_same_pixels() -> None:
    first, second = render_image(5, SIZE), render_image(5, SIZE)
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.mask, second.mask)
    assert first.polyps == second.polyps


def test_seeds_differ_widely(gallery: list[SynthFrame]) -> None:
    means = np.array([frame.image[frame.image.max(axis=2) > 20].mean(axis=0) for frame in gallery])
    assert (means.std(axis=0) > 6).all(), "every channel should vary from scene to scene"
    thumbnails = [cv2.resize(frame.image, (16, 16)).astype(float) for frame in gallery]
    closest = min(
        np.abs(a - b).mean() for i, a in enumerate(thumbnails) for b in thumbnails[i + 1 :]
    )
    assert closest > 8


def test_labels_are_binary_and_sizes_right(gallery: list[SynthFrame]) -> None:
    for frame in gallery:
        assert frame.image.shape == (*SIZE, 3)
        assert frame.image.dtype == np.uint8
        assert frame.mask.shape == SIZE
        assert frame.mask.dtype == np.uint8
        assert set(np.unique(frame.mask)) <= {0, 255}
        assert (frame.mask.any()) == (frame.polyps > 0)


def test_polyp_sizes_span_from_small_to_large(gallery: list[SynthFrame]) -> None:
    shares = [np.mean(frame.mask > 0) for frame in gallery if frame.polyps]
    assert min(shares) < 0.05
    assert max(shares) > 0.15
    assert max(shares) < 0.7


def test_images_look_like_mucosa(gallery: list[SynthFrame]) -> None:
    for frame in gallery:
        blue, green, red = frame.image[frame.image.max(axis=2) > 20].mean(axis=0)
        assert red > green > blue * 0.95
        assert 60 < red < 235


def test_no_polyps_gives_an_empty_mask() -> None:
    for seed in range(3):
        frame = render_image(seed, SIZE, polyps=0)
        assert frame.polyps == 0
        assert not frame.mask.any()


@pytest.mark.parametrize("polyps", [1, 2, 3])
def test_requested_polyps_are_there(polyps: int) -> None:
    for seed in (30, 31, 32):
        frame = render_image(seed, (128, 128), polyps=polyps)
        assert frame.polyps == polyps
        _, _, stats, _ = cv2.connectedComponentsWithStats(frame.mask)
        # Neighbours may touch and a fold may cut one in two; specks would be a wrong label.
        pieces = (stats[1:, cv2.CC_STAT_AREA] > 12).sum()
        assert 1 <= pieces <= polyps + 1
        assert len(stats) - 1 - pieces <= 2


def test_mask_stays_inside_the_field_of_view() -> None:
    for seed in range(6):
        shot = compose_still(seed, SIZE, 2)
        frame = render_image(seed, SIZE, 2)
        assert not frame.mask[shot.view == 0].any()
        border = cv2.erode(255 - shot.view, np.ones((9, 9), np.uint8)) > 0
        assert frame.image[border].max(initial=0) < 25, "black but for JPEG ringing"


def test_polyps_change_only_themselves_and_cast_shadows() -> None:
    """The same scene with and without its polyp, in linear light: no exposure, noise or JPEG."""
    for seed in (40, 41, 42, 43):
        plain, _ = light_of(compose_still(seed, (128, 128), 0))
        grown, owner = light_of(compose_still(seed, (128, 128), 1))
        ratio = (grown.mean(axis=2) + 1e-3) / (plain.mean(axis=2) + 1e-3)
        polyp = owner >= 0
        joint = cv2.dilate(polyp.astype(np.uint8), np.ones((13, 13), np.uint8)) > 0
        assert np.median(np.abs(ratio[polyp] - 1)) > 0.1, "the polyp is visible"
        assert abs(np.median(ratio[~joint]) - 1) < 0.005, "most of the scene is untouched"
        assert np.mean(ratio[~joint] > 1.02) < 0.015, "the rest is at most in its shadow"


@pytest.mark.parametrize("seed", [52, 53, 57])
def test_mask_is_where_the_surface_rises_from_the_bare_wall(seed: int) -> None:
    shot, bare = compose_still(seed, (128, 128), 1), compose_still(seed, (128, 128), 0)
    pose = shot.path.pose(0.0)
    _, owner = light_of(shot)
    _, wall = trace(bare.scene.distance, pose, shot.lens, 128, 128)
    _, seen = trace(shot.scene.distance, pose, shot.lens, 128, 128)
    fillet = shot.scene.polyps[0].fillet
    assert iou(owner >= 0, wall - seen > 0.25 * fillet) > 0.85
    assert np.percentile((wall - seen)[owner >= 0], 2) > 0.1 * fillet


def test_clip_is_coherent(clip: list[SynthFrame]) -> None:
    for before, after in pairwise(clip):
        change = cv2.absdiff(before.image, after.image).mean()
        assert 0.3 < change < 12
        assert iou(before.mask, after.mask) > 0.8
    assert iou(clip[0].mask, clip[-1].mask) < 0.97, "the endoscope moves"


def test_clip_keeps_its_polyp_in_view_and_comes_nearer() -> None:
    for seed in (1, 2):
        shares = [
            np.mean(f.mask > 0) for f in render_clip(seed, 6, (96, 128), fps=1.0, polyps=None)
        ]
        assert sum(share > 0.005 for share in shares) >= 5
        assert max(shares) > 0.02


def test_clip_repeats_from_its_seed(clip: list[SynthFrame]) -> None:
    again = next(render_clip(7, 8, (120, 160), fps=25.0, polyps=1))
    np.testing.assert_array_equal(again.image, clip[0].image)


def test_still_frames_of_a_clip_differ_only_by_noise() -> None:
    """At a very high rate nothing moves between frames, but the sensor's noise is drawn anew."""
    first, second = render_clip(9, 2, SIZE, fps=1e5, polyps=0)
    assert (first.image != second.image).any()
    assert cv2.absdiff(first.image, second.image).mean() < 4


@pytest.mark.parametrize("size", [(97, 131), (131, 97), (32, 33), (48, 200)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    frame = render_image(3, size, polyps=1)
    assert frame.image.shape == (*size, 3)
    assert frame.mask.shape == size
    assert frame.mask.any()


def test_write_dataset(tmp_path: Path) -> None:
    heard: list[int] = []
    write_dataset(tmp_path / "new" / "set", 3, (64, 80), seed=1, on_progress=heard.append, polyps=1)
    assert heard == [1, 2, 3]
    images = sorted((tmp_path / "new" / "set" / "images").iterdir())
    masks = sorted((tmp_path / "new" / "set" / "masks").iterdir())
    assert [path.name for path in images] == ["000000.jpg", "000001.jpg", "000002.jpg"]
    assert [path.name for path in masks] == ["000000.png", "000001.png", "000002.png"]
    pixels = [cv2.imread(str(path)) for path in images]
    assert pixels[0].shape == (64, 80, 3)
    assert np.abs(pixels[0].astype(int) - pixels[1]).mean() > 5
    mask = cv2.imread(str(masks[0]), cv2.IMREAD_GRAYSCALE)
    assert set(np.unique(mask)) == {0, 255}


def test_datasets_of_neighbouring_seeds_share_no_image(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_dataset(tmp_path / str(seed), 2, (32, 32), seed=seed)
    files = [path.read_bytes() for path in tmp_path.glob("*/images/*.jpg")]
    assert len(set(files)) == 4


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file, not a folder")
    with pytest.raises(OutputError, match="taken") as caught:
        write_dataset(tmp_path / "taken", 1, (32, 32), seed=0)
    assert "\n" not in str(caught.value)


def test_failed_write_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OutputError, match="No space left"):
        write_dataset(tmp_path, 1, (32, 32), seed=0)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: render_image(0, (31, 64)),
        lambda folder: render_image(0, (64, 16)),
        lambda folder: render_image(-1),
        lambda folder: render_image(0, polyps=4),
        lambda folder: render_image(0, polyps=-1),
        lambda folder: render_clip(0, 0),
        lambda folder: render_clip(0, 5, fps=0),
        lambda folder: render_clip(0, 5, size=(480, 8)),
        lambda folder: write_dataset(folder, 0, (64, 64), seed=0),
        lambda folder: write_dataset(folder, 1, (8, 8), seed=0),
        lambda folder: write_dataset(folder, 1, (64, 64), seed=-3),
    ],
)
def test_impossible_arguments(call, tmp_path: Path) -> None:
    """Refused at once, before a clip is iterated or a folder made."""
    with pytest.raises(UsageError):
        call(tmp_path / "set")
    assert not (tmp_path / "set").exists()
