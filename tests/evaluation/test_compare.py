"""A and B on masks made by hand; the test and the interval themselves are in test_bootstrap."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from rwkv_edge.data.pairs import find_pairs
from rwkv_edge.errors import DataError
from rwkv_edge.evaluation import evaluate_masks
from rwkv_edge.evaluation.bootstrap import Interval
from rwkv_edge.evaluation.compare import Latency, compare
from rwkv_edge.evaluation.comparison_page import Contestant, comparison_page
from rwkv_edge.preprocess import FloatArray, UInt8Array
from tests.data.pictures import save_pair
from tests.evaluation.test_evaluate import square


def see(channel: int) -> object:
    """A model that takes one colour of the picture for the lesion."""

    def segment(image: UInt8Array) -> FloatArray:
        return (image[None, :, :, channel] / 255).astype(np.float32)

    return segment


def write(folder: Path, count: int, green_is_right: int) -> Path:
    """Blue is always right; green is right on the first few images, and half right on the rest."""
    for index in range(count):
        truth = square(8, 16)
        green = truth if index < green_is_right else square(16, 16)
        save_pair(folder, f"{index}", np.dstack([truth, green, truth * 0]), truth)
    return folder


def compared(folder: Path, a: int, b: int) -> object:
    pairs = find_pairs(folder)
    return compare(evaluate_masks(see(a), pairs), evaluate_masks(see(b), pairs))


def test_clear_winner_either_way(tmp_path: Path) -> None:
    write(tmp_path, 12, green_is_right=2)
    found = compared(tmp_path, 1, 0).differences["dice"]
    assert found.a.value == pytest.approx((2 + 10 * 0.5) / 12)
    assert found.b.value == 1
    assert found.difference.value == pytest.approx(10 * 0.5 / 12)
    assert (found.winner, found.wins) == ("B", (0, 10))
    assert found.verdict.startswith("B is better: B has the higher Dice, B - A = +0.4167, 95 % int")
    turned = compared(tmp_path, 0, 1).differences
    assert (turned["dice"].winner, turned["dice"].wins) == ("A", (10, 0))
    rate = turned["false_positive_rate"]  # lower is better
    assert rate.difference.value == pytest.approx(10 / 12 * 128 / (64**2 - 256))
    assert rate.winner == "A"


def test_false_alarms(tmp_path: Path) -> None:
    for index in range(10):
        image = np.dstack([square(8, 8), square(8, 8), square(8, 8) * 0])
        image[50:60, 50:60, 1] = 255
        save_pair(tmp_path, f"{index}", image, square(8, 8))
    found = compared(tmp_path, 0, 1).differences["false_alarm_rate"]
    assert (found.a.value, found.b.value, found.winner) == (0, 1, "A")


def test_not_enough_images(tmp_path: Path) -> None:
    """One image of six differs: Dice +0.5 there, mean 1/12, deviation 0.2041."""
    write(tmp_path, 6, green_is_right=5)
    found = compared(tmp_path, 1, 0).differences["dice"]
    assert found.winner == "not enough images"
    assert found.needed == 50  # 7.849 * (0.2041 / 0.08333)^2 + 1.92 = 49.02
    assert "on 6 images" in found.verdict
    assert "it takes about 50 to tell" in found.verdict


def test_same(tmp_path: Path) -> None:
    write(tmp_path, 5, green_is_right=5)
    found = compared(tmp_path, 0, 1).differences["dice"]
    assert (found.winner, found.needed, found.p) == ("same", None, 1)
    assert found.verdict == "No difference: the Dice is the same on all 5 images."


def test_sizes_and_most_different(tmp_path: Path) -> None:
    write(tmp_path, 4, green_is_right=3)
    result = compared(tmp_path, 1, 0)
    assert result.by_size["small"] is None
    assert result.by_size["medium"].images == 4
    first, *_ = result.most_different(2)
    assert first[0].pair.name == "3.png"


def test_different_images(tmp_path: Path) -> None:
    pairs = find_pairs(write(tmp_path, 3, 3))
    with pytest.raises(DataError, match="different images"):
        compare(evaluate_masks(see(0), pairs), evaluate_masks(see(0), pairs[1:]))


@pytest.mark.parametrize(
    ("ratio", "rounds", "winner", "verdict"),
    [
        ((0.5, 0.4, 0.6), 50, "B", "B is faster: B takes 0.50 times as long as A, 95 % interval"),
        ((2, 1.9, 2.1), 20, "A", "A is faster"),
        ((1.1, 0.9, 1.3), 50, "same", "No difference in latency"),
        ((0.5, 0.4, 0.6), 19, "not enough rounds", "Not enough rounds to tell which is faster"),
    ],
)
def test_latency(ratio: tuple[float, float, float], rounds: int, winner: str, verdict: str) -> None:
    latency = Latency(Interval(*ratio), rounds, "a machine")
    assert latency.winner == winner
    assert latency.verdict.startswith(verdict)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data


def test_page_is_one_file(tmp_path: Path) -> None:
    write(tmp_path, 3, green_is_right=2)

    def labels(image: UInt8Array) -> UInt8Array:
        return (image[:, :, 0] > 127).astype(np.uint8)

    sides = tuple(
        Contestant(name, "test", (64, 64), 10.0, 12.0, labels) for name in ("<b>.onnx", "new")
    )
    latency = Latency(Interval(0.5, 0.4, 0.6), 50, "a machine")
    page = comparison_page(compared(tmp_path, 1, 0), sides, latency, "some & all")
    reader = _Links()
    reader.feed(page)
    assert len(reader.sources) == 6
    assert all(source.startswith("data:image/jpeg;base64,") for source in reader.sources)
    assert "http" not in page.replace("data:image", "")
    for words in ("<b>.onnx", "some & all", "Research use only", "B is faster: ", "2.png: A 0.500"):
        assert words in reader.words
