"""Models of other projects, made of two nodes each, so that every pixel can be foreseen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.runtime.foreign import ForeignModel, Preprocess


def write_model(path: Path, shape: list[int | str], axis: int = 1, planes: int = 3) -> Path:
    """A model that gives back the first planes of what it gets."""
    slices = [("start", [0]), ("end", [planes]), ("axis", [axis])]
    constants = [helper.make_tensor(n, TensorProto.INT64, [1], v) for n, v in slices]
    graph = helper.make_graph(
        [helper.make_node("Slice", ["x", "start", "end", "axis"], ["y"])],
        "echo",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


IMAGE = np.full((20, 40, 3), (51, 102, 153), np.uint8)  # BGR


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("probability", [0.6, 0.4, 0.2]),
        ("bgr,probability", [0.2, 0.4, 0.6]),
        ("-1-1,logits,bgr", np.exp([-0.6, -0.2, 0.2]) / np.exp([-0.6, -0.2, 0.2]).sum()),
        (
            "imagenet",
            np.exp([(0.6 - 0.485) / 0.229, (0.4 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]),
        ),
    ],
)
def test_pixels(tmp_path: Path, words: str, expected: list[float]) -> None:
    model = ForeignModel(write_model(tmp_path / "a.onnx", [1, 3, 16, 16]), Preprocess.parse(words))
    output = model(IMAGE)
    assert output.shape == (3, 20, 40)
    expected = np.array(expected)
    expected = expected / expected.sum() if words == "imagenet" else expected
    assert output[:, 10, 20] == pytest.approx(expected, abs=1e-5)


def test_nhwc_letterbox_and_size(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", [1, "h", "w", 3], axis=3, planes=1)
    model = ForeignModel(path, Preprocess.parse("nhwc,letterbox,16x16,probability"))
    assert model.input_size == (16, 16)
    assert model(IMAGE).shape == (1, 20, 40)
    assert model(IMAGE) == pytest.approx(0.6)  # the black bars are cut off again
    with pytest.raises(UsageError, match="leaves its size open"):
        ForeignModel(path, Preprocess.parse("nhwc"))


def test_two_classes_are_lesion_and_background(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", [1, 3, 16, 16], planes=2)
    assert ForeignModel(path, Preprocess.parse("probability"))(IMAGE) == pytest.approx(0.4)
    logits = ForeignModel(path, Preprocess.parse("logits"))(IMAGE)
    assert logits == pytest.approx(1 / (1 + np.exp(0.2)))


def test_one_plane_of_logits(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", [1, 3, 16, 16], planes=1)
    assert ForeignModel(path, Preprocess())(IMAGE) == pytest.approx(1 / (1 + np.exp(-0.6)))


def test_refused(tmp_path: Path) -> None:
    path = write_model(tmp_path / "a.onnx", [1, 3, 16, 16])
    with pytest.raises(BackendError, match="values from 51 to 153; declare 'logits'"):
        ForeignModel(path, Preprocess.parse("0-255,probability"))(IMAGE)
    with pytest.raises(UsageError, match="takes 16x16, not the size"):
        ForeignModel(path, Preprocess.parse("32x32"))
    with pytest.raises(BackendError, match="no such file"):
        ForeignModel(tmp_path / "b.onnx", Preprocess())
    (tmp_path / "c.onnx").write_text("text")
    with pytest.raises(BackendError, match="cannot load it"):
        ForeignModel(tmp_path / "c.onnx", Preprocess())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rgb,brg", "preprocessing 'brg': choose among rgb|bgr, "),
        ("rgb,bgr", "'rgb' and 'bgr' exclude each other"),
        ("imagenet,0-255", "'imagenet' is of pictures in 0-1"),
        ("0x16", "preprocessing '0x16'"),
    ],
)
def test_words(words: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Preprocess.parse(words)
    assert message in str(caught.value)
