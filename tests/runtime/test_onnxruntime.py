from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from rwkv_edge.errors import BackendError
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"m\.onnx") as caught:
        OnnxRuntimeRunner(path)
    assert "\n" not in str(caught.value)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no such file"):
        OnnxRuntimeRunner(tmp_path / "none.onnx")


def test_a_model_of_another_project(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BackendError, match="not a model of rwkv-edge export"):
        OnnxRuntimeRunner(tmp_path / "other.onnx")


def test_external_data_outside_is_refused(tmp_path: Path) -> None:
    """A hostile file that points its weights at a file of the system."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy"]
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4])
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "../../../../../../etc/passwd"), ("length", "16")):
        tensor.external_data.add(key=key, value=text)
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", value[:1], value[1:], [tensor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    (tmp_path / "h.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"h\.onnx"):
        OnnxRuntimeRunner(tmp_path / "h.onnx")
