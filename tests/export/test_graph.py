from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from rwkv_edge.errors import BackendError
from rwkv_edge.export.graph import (
    cast_input_first,
    layer_groups,
    read_onnx,
    set_batch,
    without_functions,
)
from rwkv_edge.weights import shipped_onnx


@pytest.fixture(scope="module")
def tiny() -> onnx.ModelProto:
    return read_onnx(shipped_onnx("tiny"))


def run(model: onnx.ModelProto, image: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = ort.InferenceSession(model.SerializeToString(), options)
    result: np.ndarray = session.run(None, {"image": image})[0]
    return result


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)


def test_only_a_cast_reads_the_uint8_input(tiny: onnx.ModelProto, images: np.ndarray) -> None:
    model = cast_input_first(tiny)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node if "image" in node.input] == ["Cast"]
    np.testing.assert_array_equal(run(model, images[:1]), run(tiny, images[:1]))
    assert cast_input_first(model).graph == model.graph  # once is enough


@pytest.mark.parametrize("batch", [2, None])
def test_another_batch(tiny: onnx.ModelProto, images: np.ndarray, batch: int | None) -> None:
    model = set_batch(tiny, batch)
    onnx.checker.check_model(model, full_check=True)
    together = run(model, images)
    for index in range(2):
        single = run(tiny, images[index : index + 1])
        np.testing.assert_allclose(together[index : index + 1], single, atol=1e-5)


def test_layers_have_the_names_of_the_network(tiny: onnx.ModelProto) -> None:
    groups = layer_groups(tiny)
    assert {"encoder.stage3.1.att", "ccm.projections", "decoder2.conv_local", "final_conv"} <= set(
        groups
    )
    nodes = [name for names in groups.values() for name in names]
    assert sorted(nodes) == sorted(node.name for node in tiny.graph.node)


def test_the_functions_can_be_dropped(tiny: onnx.ModelProto) -> None:
    model = without_functions(tiny)
    assert not model.functions
    assert "BiWKV" in {function.name for function in tiny.functions}
    assert sum(node.op_type == "BiWKV" for node in model.graph.node) == 4


def refuses(path: Path, reason: str) -> None:
    with pytest.raises(BackendError, match=reason) as caught:
        read_onnx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_damaged_files(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    refuses(path, "No such file")
    path.write_bytes(b"")
    refuses(path, "the file is empty")
    content = tiny.SerializeToString()
    for damaged in (b"no model", b"\x08\x0a" * 50, content[:1000], content[: len(content) // 2]):
        path.write_bytes(damaged)
        refuses(path, "truncated, damaged or not an ONNX file")


def test_foreign_models(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 3, 8, 8]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    refuses(path, "not a model of rwkv-edge export")


def test_external_data(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = folder / "m.onnx"
    copy = onnx.ModelProto()
    copy.CopyFrom(tiny)
    onnx.save(copy, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    inside = read_onnx(path)
    weights = [t for t in inside.graph.initializer if t.name.endswith("conv.weight")]
    assert all(tensor.data_location != TensorProto.EXTERNAL for tensor in weights)
    (folder / "m.bin").rename(tmp_path / "m.bin")
    refuses(path, "is missing beside it")
    for location in ("../m.bin", str(tmp_path / "m.bin")):
        moved = onnx.load(path, load_external_data=False)
        for tensor in moved.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        path.write_bytes(moved.SerializeToString())
        refuses(path, "points outside its folder")
    (folder / "link.bin").symlink_to(tmp_path / "m.bin")
    for tensor in moved.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "link.bin"
    path.write_bytes(moved.SerializeToString())
    refuses(path, "points outside its folder")


def test_lowering_needs_no_torch() -> None:
    """A Jetson has none."""
    code = (
        "import sys, rwkv_edge.cli.engine, rwkv_edge.export.lower; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
