from __future__ import annotations

import csv
import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.drawing import FOOTER
from rwkv_edge.errors import BackendError, DataError
from rwkv_edge.evaluation import (
    draw_worst_cases,
    evaluate,
    per_image_csv,
    predict_labels,
    summary,
)
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import FloatArray, UInt8Array
from tests.data.pictures import save_pair

INPUT = (64, 64)
OVERALL = (
    "images",
    "mean_dice",
    "mean_iou",
    "pooled_dice",
    "precision",
    "recall",
    "false_positive_rate",
)


def square(left: int, width: int, value: int = 255, size: tuple[int, int] = (64, 64)) -> UInt8Array:
    """A mask with a square whose upper edge is row 16."""
    mask = np.zeros(size, np.uint8)
    mask[16 : 16 + width, left : left + width] = value
    return mask


def painted(mask: UInt8Array) -> UInt8Array:
    """A picture that shows its mask in the blue channel, for `see_blue` to find."""
    return np.dstack([mask, mask * 0, mask * 0])


def see_blue(batch: UInt8Array) -> FloatArray:
    """A model that finds exactly what is blue."""
    assert batch.shape == (1, *INPUT, 3)
    assert batch.dtype == np.uint8
    return batch[:, None, :, :, 0].astype(np.float32) / 255


def see_shades(batch: UInt8Array) -> FloatArray:
    """A model of three classes: blue 0, 100 and 200."""
    shades = np.array([0, 100, 200]).reshape(1, 3, 1, 1)
    return (np.abs(batch[:, None, :, :, 0].astype(int) - shades) < 50).astype(np.float32)


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Images whose blue agrees with the mask wholly, by half, and not at all."""
    save_pair(tmp_path, "whole", painted(square(8, 16)), square(8, 16))
    save_pair(tmp_path, "half", painted(square(8, 16)), square(16, 16))
    save_pair(tmp_path, "empty", painted(square(8, 16)), square(0, 0))
    return tmp_path


class TestEvaluate:
    def test_figures_by_hand(self, three: Path) -> None:
        result = evaluate(see_blue, INPUT, find_pairs(three))
        area = 16 * 16
        by_name = {score.pair.image.stem: score.foreground for score in result.scores}
        rest = 64 * 64 - area
        assert by_name["whole"] == PixelCounts(area, 0, 0, rest)
        assert by_name["half"] == PixelCounts(area // 2, area // 2, area // 2, rest - area // 2)
        assert by_name["empty"] == PixelCounts(0, area, 0, rest)
        found = summary(result)
        assert {name: found[name] for name in OVERALL} == {
            "images": 3,
            "mean_dice": pytest.approx((1 + 0.5 + 0) / 3),
            "mean_iou": pytest.approx((1 + 1 / 3 + 0) / 3),
            "pooled_dice": pytest.approx(2 * 1.5 / (3 + 2)),
            "precision": pytest.approx(1.5 / 3),
            "recall": pytest.approx(1.5 / 2),
            "false_positive_rate": pytest.approx(1.5 * area / (3 * 64 * 64 - 2 * area)),
        }

    def test_at_the_images_own_resolution(self, tmp_path: Path) -> None:
        mask = square(100, 60, size=(150, 333))
        save_pair(tmp_path, "a", painted(mask), mask)
        (score,) = evaluate(see_blue, INPUT, find_pairs(tmp_path)).scores
        counts = score.foreground
        assert counts.true_positive + counts.false_negative == 60 * 60
        assert sum(vars(counts).values()) == mask.size
        assert counts.dice > 0.93

    def test_confidence(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a", painted(square(8, 16, value=153)), square(8, 16))
        pairs = find_pairs(tmp_path)
        assert evaluate(see_blue, INPUT, pairs, confidence=0.55).mean_dice == 1
        assert evaluate(see_blue, INPUT, pairs, confidence=0.65).mean_dice == 0

    def test_classes(self, tmp_path: Path) -> None:
        """All is found, but half of the second class, a quarter in all, is taken for the first."""
        truth = square(8, 16, value=1) + square(32, 16, value=2)
        seen = square(8, 16, value=100) + square(32, 16, value=200)
        seen[16:32, 32:40] = 100
        save_pair(tmp_path, "a", painted(seen), truth)
        names = ("background", "polyp", "tool")
        result = evaluate(see_shades, INPUT, find_pairs(tmp_path), names)
        assert result.mean_dice == 0.75
        assert result.class_dice == pytest.approx({"polyp": 2 / 2.5, "tool": 1 / 1.5})
        assert summary(result)["class_dice"] == result.class_dice
        (row,) = csv.DictReader(io.StringIO(per_image_csv(result)))
        assert float(row["dice_polyp"]) == pytest.approx(0.8)
        assert float(row["dice_tool"]) == pytest.approx(2 / 3, abs=1e-6)

    def test_nothing_there_and_nothing_found(self, tmp_path: Path) -> None:
        save_pair(tmp_path, "a", painted(square(0, 0)), square(0, 0))
        result = evaluate(see_blue, INPUT, find_pairs(tmp_path))
        assert (result.mean_dice, result.mean_iou, result.pooled.dice) == (1, 1, 1)

    def test_progress(self, three: Path) -> None:
        done = []
        evaluate(see_blue, INPUT, find_pairs(three), on_progress=lambda: done.append(1))
        assert len(done) == 3

    def test_all_bad_images_at_once_and_none_predicted_in_vain(self, three: Path) -> None:
        (three / "images" / "empty.png").write_bytes(b"")
        (three / "masks" / "whole.png").write_text("text")
        calls = []

        def count(batch: UInt8Array) -> FloatArray:
            calls.append(1)
            return see_blue(batch)

        with pytest.raises(DataError) as caught:
            evaluate(count, INPUT, find_pairs(three))
        first, *problems = str(caught.value).splitlines()
        assert first == f"{three}: 2 problems"
        assert "images/empty.png: the file is empty" in problems[0]
        assert "masks/whole.png: not an image" in problems[1]
        assert not calls

    def test_output_that_is_no_number(self, three: Path) -> None:
        def broken(batch: UInt8Array) -> FloatArray:
            return np.full((1, 1, *INPUT), np.nan, np.float32)

        with pytest.raises(BackendError, match="output is not finite"):
            evaluate(broken, INPUT, find_pairs(three))


class TestReport:
    def test_csv(self, three: Path) -> None:
        result = evaluate(see_blue, INPUT, find_pairs(three))
        rows = {row["image"]: row for row in csv.DictReader(io.StringIO(per_image_csv(result)))}
        assert list(rows) == ["empty.png", "half.png", "whole.png"]
        half = rows["half.png"]
        assert half["size"] == "medium"  # 256 of 4096 pixels
        assert (half["lesions"], half["lesions_found"], half["false_alarms"]) == ("1", "1", "0")
        assert half["dice_network"] == half["dice"]
        assert rows["empty.png"]["hd95"] == ""  # no distance to what is not there
        assert {name: half[name] for name in list(half)[:9]} == {
            "image": "half.png",
            "dice": "0.500000",
            "iou": "0.333333",
            "precision": "0.500000",
            "recall": "0.500000",
            "true_positive": "128",
            "false_positive": "128",
            "false_negative": "128",
            "true_negative": str(64 * 64 - 3 * 128),
        }

    def test_worst_first(self, three: Path) -> None:
        result = evaluate(see_blue, INPUT, find_pairs(three))
        assert [score.pair.image.stem for score in result.worst(2)] == ["empty", "half"]

    def test_picture(self, three: Path, tmp_path: Path) -> None:
        result = evaluate(see_blue, INPUT, find_pairs(three))
        path = tmp_path / "worst.png"
        draw_worst_cases(path, result, lambda image: predict_labels(see_blue, INPUT, image))
        picture = cv2.imread(str(path))
        assert picture.shape == (256 + FOOTER, 3 * 256, 3)
        truth = (picture[64:128, 256:512] > 180).all(axis=2)
        columns = np.flatnonzero(truth.any(axis=0)) / 4  # tiles are drawn four times as large
        assert columns.min() == pytest.approx(16, abs=1.5)
        assert columns.max() == pytest.approx(32, abs=1.5)
