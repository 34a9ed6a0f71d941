"""The figures of whole data sets, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.evaluation import evaluate, evaluate_masks, summary
from tests.data.pictures import save_pair
from tests.evaluation.test_evaluate import INPUT, painted, see_blue, see_shades, square


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """Found, missed, and of two images without a lesion one with a false alarm."""
    nothing = square(0, 0)
    save_pair(tmp_path, "found", painted(square(8, 16)), square(8, 16))
    save_pair(tmp_path, "missed", painted(nothing), square(8, 8))
    save_pair(tmp_path, "clean", painted(nothing), nothing)
    save_pair(tmp_path, "alarm", painted(square(8, 16)), nothing)
    return tmp_path


def test_lesions_and_sizes(four: Path) -> None:
    found = summary(evaluate(see_blue, INPUT, find_pairs(four)))
    assert found["mean_dice"] == found["mean_dice_network"] == 0.5
    assert found["lesion_sensitivity"] == 0.5
    assert found["false_alarms_per_image"] == 0.25
    area = 16 * 16 / 64**2
    assert found["lesion_free"] == {"images": 2, "with_false_alarm": 0.5, "false_area": area / 2}
    assert found["hd95"] == 0  # of the one image where there is a distance
    assert found["hd95_images"] == 1
    assert found["mae"] == pytest.approx((area + 64 / 64**2) / 4)
    assert found["calibration_error"] == pytest.approx(found["mae"])  # all are 0 or 1
    sizes = {name: row["images"] for name, row in found["by_size"].items()}
    assert sizes == {"small": 1, "medium": 1, "large": 0}
    assert found["by_size"]["medium"]["mean_dice"] == 1
    assert found["by_size"]["small"]["lesions_found"] == 0
    assert "mean_dice" not in found["by_size"]["large"]
    low, high = found["intervals_95"]["mean_dice"]
    assert (low, high) == (0, 1)  # four images tell next to nothing


def test_without_a_lesion_or_a_prediction(tmp_path: Path) -> None:
    save_pair(tmp_path, "a", painted(square(0, 0)), square(0, 0))
    found = summary(evaluate(see_blue, INPUT, find_pairs(tmp_path)))
    assert found["precision"] == found["recall"] == found["mean_dice"] == 1
    assert "lesion_sensitivity" not in found
    assert "hd95" not in found


def test_network_resolution(tmp_path: Path) -> None:
    """An image of twice the input's size: coarser there, finer at its own resolution."""
    mask = square(30, 45, size=(128, 128))
    save_pair(tmp_path, "a", painted(mask), mask)
    found = summary(evaluate(see_blue, INPUT, find_pairs(tmp_path)))
    assert 0.9 < found["mean_dice"] < 1
    assert found["mean_dice_network"] != found["mean_dice"]
    assert found["mean_dice_network"] > 0.9


def test_classes(tmp_path: Path) -> None:
    """Two images of three classes; the tool is on the second alone, where half of it is found."""
    polyp = square(8, 16, value=1)
    save_pair(tmp_path, "a", painted(square(8, 16, value=100)), polyp)
    seen = square(8, 16, value=100)
    seen[16:32, 32:40] = 200
    save_pair(tmp_path, "b", painted(seen), polyp + square(32, 16, value=2))
    names = (
        "background",
        "polyp",
        "tool",
    )
    found = summary(evaluate(see_shades, INPUT, find_pairs(tmp_path), names))
    assert found["class_mean_dice"] == pytest.approx({"polyp": 1, "tool": 2 / 3})
    assert found["mean_class_dice"] == pytest.approx(5 / 6)


def test_masks_of_a_model_with_its_own_preprocessing(four: Path) -> None:
    def segment(image: np.ndarray) -> np.ndarray:
        return (image[None, :, :, 0] / 255).astype(np.float32)

    found = summary(evaluate_masks(segment, find_pairs(four)))
    whole = summary(evaluate(see_blue, INPUT, find_pairs(four)))
    assert found["mean_dice"] == whole["mean_dice"]
    assert "mae" not in found
    assert "mae" in whole
