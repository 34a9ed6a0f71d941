from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.data.synth import render_image
from rwkv_edge.errors import UsageError
from rwkv_edge.evaluation.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from rwkv_edge.evaluation.robustness import (
    draw_corruptions,
    draw_robustness,
    measure_robustness,
    robustness_csv,
)
from rwkv_edge.preprocess import FloatArray, UInt8Array
from tests.data.pictures import save_pair

CHANGES_MASKS = {"rotation", "field of view", "picture-in-picture", "occlusion"}
SYNTH = render_image(7, (240, 280), polyps=1)
MASK = (SYNTH.mask > 0).astype(np.uint8)


def corrupted(name: str, strength: int, seed: int = 0) -> tuple[UInt8Array, UInt8Array]:
    return corrupt(name, SYNTH.image, MASK, strength, np.random.default_rng(seed))


@pytest.mark.parametrize("name", CORRUPTIONS)
class TestEach:
    def test_seeded_and_leaves_its_input_alone(self, name: str) -> None:
        image, mask = SYNTH.image.copy(), MASK.copy()
        for strength in STRENGTHS:
            found = corrupted(name, strength)
            for ours, again in zip(found, corrupted(name, strength), strict=True):
                assert np.array_equal(ours, again)
            assert (found[0].shape, found[0].dtype) == (image.shape, np.uint8)
            assert (found[1].shape, found[1].dtype) == (mask.shape, np.uint8)
        assert np.array_equal(SYNTH.image, image)
        assert np.array_equal(MASK, mask)

    def test_stronger_is_further_from_the_clean_picture(self, name: str) -> None:
        """In the mean of some seeds; upside down is no further than at right angles."""
        distances = [
            np.mean(
                [
                    np.abs(corrupted(name, strength, seed)[0].astype(int) - SYNTH.image).mean()
                    for seed in range(6)
                ]
            )
            for strength in STRENGTHS
        ]
        assert distances[0] > 0
        if name != "rotation":
            assert distances == sorted(distances)

    def test_mask_follows_the_pixels_and_only_then(self, name: str) -> None:
        changed = any(not np.array_equal(corrupted(name, 5, seed)[1], MASK) for seed in range(8))
        assert changed == (name in CHANGES_MASKS)
        assert set(np.unique(corrupted(name, 5)[1])) <= {0, 1}

    def test_small_and_odd_pictures(self, name: str) -> None:
        for shape in ((8, 9), (33, 17)):
            image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
            found = corrupt(name, image, np.ones(shape, np.uint8), 5, np.random.default_rng(1))
            assert found[0].shape == (*shape, 3)


def test_twenty() -> None:
    assert len(CORRUPTIONS) == 20


def test_rotation_takes_the_mask_along() -> None:
    """What is bright stays under the mask."""
    image = np.zeros((101, 101, 3), np.uint8)
    mask = np.zeros((101, 101), np.uint8)
    cv2.circle(mask, (50, 30), 12, 1, -1)
    image[mask > 0] = 255
    for strength in STRENGTHS:
        turned, label = corrupt("rotation", image, mask, strength, np.random.default_rng(0))
        overlap = (turned[..., 0] > 127) == (label > 0)
        assert overlap.mean() > 0.99
        assert int(label.sum()) == pytest.approx(int(mask.sum()), rel=0.05)
    assert label[70, 50] == 1  # half a turn: below instead of above
    assert label[30, 50] == 0


def test_what_an_instrument_hides_is_not_to_be_found() -> None:
    image, labels = np.full((120, 160, 3), 10, np.uint8), np.ones((120, 160), np.uint8)
    drawn, left = corrupt("occlusion", image, labels, 5, np.random.default_rng(0))
    covered = (drawn != image).any(2)
    assert 0.05 < covered.mean() < 0.6
    # but for the smoothed rim, which is neither
    assert np.mean((left == 0) != covered) < 0.03
    assert not (left == 0)[~covered].any()


def test_exposure_is_two_stops() -> None:
    image = np.full((20, 20, 3), 40, np.uint8)
    found = {
        int(corrupt("exposure", image, MASK, 5, np.random.default_rng(seed))[0][0, 0, 0])
        for seed in range(10)
    }
    assert found == {10, 160}


def test_veils_spare_the_black_around_the_view() -> None:
    black = cv2.erode((SYNTH.image.max(axis=2) == 0).astype(np.uint8), np.ones((5, 5))) > 0
    assert black.any()
    for name in ("smoke", "fluid", "specular"):
        assert corrupted(name, 5)[0][black].max() < 20


def test_refused() -> None:
    with pytest.raises(UsageError, match="no corruption 'rain'"):
        corrupted("rain", 1)
    with pytest.raises(UsageError, match="strength 6"):
        corrupted("noise", 6)


def see_bright(image: UInt8Array) -> FloatArray:
    """A model that exposure misleads and that rotation does not."""
    return (image.min(axis=2) > 100)[None].astype(np.float32)


@pytest.fixture
def pairs(tmp_path: Path) -> list:
    for index in range(3):
        mask = np.zeros((64, 64), np.uint8)
        cv2.circle(mask, (32, 32), 10 + 2 * index, 255, -1)
        save_pair(tmp_path, f"{index}", np.dstack([mask // 2 + 20] * 3), mask)
    return find_pairs(tmp_path)


def test_measure(pairs: list, tmp_path: Path) -> None:
    done: list[int] = []
    names = ["exposure", "rotation", "field of view"]
    found = measure_robustness(see_bright, pairs, names=names, on_progress=lambda: done.append(1))
    assert (found.images, len(done), found.clean.dice) == (3, 3, 1)
    assert list(found.corrupted) == names
    assert [cell.dice for cell in found.corrupted["field of view"][:2]] == [1, 1]
    assert min(cell.dice for cell in found.corrupted["rotation"]) > 0.97
    assert min(cell.dice for cell in found.corrupted["exposure"]) < 0.5
    every = [cell.dice for cells in found.corrupted.values() for cell in cells]
    assert found.relative_dice == pytest.approx(np.mean(every))
    alone = measure_robustness(see_bright, pairs, names=["exposure"])
    assert alone.corrupted["exposure"] == found.corrupted["exposure"]
    other = measure_robustness(see_bright, pairs, names=["exposure"], seed=5)
    assert other.corrupted["exposure"] != found.corrupted["exposure"]

    rows = list(csv.DictReader(io.StringIO(robustness_csv({"a": found, "b": found}))))
    assert len(rows) == 2 * (1 + 3 * 5)
    assert rows[0] == {
        "data": "a",
        "corruption": "clean",
        "strength": "0",
        "dice": "1.000000",
        "false_alarms_per_image": "0.000000",
    }
    draw_robustness(tmp_path / "curves.png", {"a": alone, "b": other})
    assert cv2.imread(str(tmp_path / "curves.png")).std() > 5


def test_model_that_finds_nothing(pairs: list) -> None:
    found = measure_robustness(lambda image: see_bright(image) * 0, pairs, names=["noise"])
    assert found.relative_dice is None


def test_sheet(tmp_path: Path) -> None:
    draw_corruptions(tmp_path / "a.png", SYNTH.image, MASK)
    assert cv2.imread(str(tmp_path / "a.png")).shape[1] == 5 * 256
