from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from rwkv_edge.errors import ExportError, OutputError, UsageError
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model
from rwkv_edge.operators import NAMES
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.torch import TorchRunner


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """Tiny with weights that are not symmetric in anything: norms and decays drawn at random."""
    torch.manual_seed(0)
    model = create_model("tiny").eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith(("norm.weight", "running_var", "ln1.weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith(("norm.bias", "running_mean", "ln1.bias")):
                tensor.normal_(0, 0.1)
    return model


@pytest.fixture(scope="module")
def exported(network: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.onnx"
    info = CheckpointInfo("tiny", training="on discs")
    report = export_onnx(network, info, path, imgsz=(64, 96), weights_sha256="abc")
    assert report.max_error < 1e-4
    assert [report.nodes[name] for name in ("BiWKV", "ShiftMix3", "ShiftMix2")] == [4, 4, 1]
    return path


def test_the_graph_is_clean(exported: Path) -> None:
    model = onnx.load(exported)
    operators = [node.op_type for node in model.graph.node]
    assert not {"ScatterND", "ScatterElements", "Identity", "Expand", "Constant"} & set(operators)
    assert operators.count("Cast") == 1  # uint8 to float32
    producer = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type == "Transpose":
            before = producer.get(node.input[0])
            assert before is None or before.op_type != "Transpose", node.name
    ours = [node for node in model.graph.node if node.domain == "rwkv_edge"]
    assert {node.op_type for node in ours} == set(NAMES)
    constants = {tensor.name for tensor in model.graph.initializer}
    for node in ours:
        bi_wkv = node.op_type == "BiWKV"  # whose w / T and u / T are folded
        assert constants.issuperset(node.input[:2] if bi_wkv else node.input[1:])


def test_the_file_describes_itself(exported: Path) -> None:
    model = onnx.load(exported)
    properties = {p.key: p.value for p in model.metadata_props}
    assert properties["variant"] == "tiny"
    assert properties["imgsz"] == "64x96"
    assert properties["training"] == "on discs"
    assert properties["weights_sha256"] == "abc"
    assert "not for diagnosis" in properties["use"]
    assert str(Path.home()) not in str(model.graph.node)  # no traces of this machine
    assert {f.name for f in model.functions} == set(NAMES)
    image, probability = model.graph.input[0], model.graph.output[0]
    assert (image.name, probability.name) == ("image", "probability")
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_another_batch_size_and_odd_token_counts(network: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "b.onnx"
    export_onnx(network, CheckpointInfo("tiny"), path, imgsz=(48, 80), batch=2, opset=20)
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 80, 3), np.uint8)
    with OnnxRuntimeRunner(path) as runner:
        assert runner(images).shape == (3, 1, 48, 80)
        np.testing.assert_allclose(runner(images)[2:], runner(images[2:]), atol=1e-6)


def test_extreme_decays_take_the_chunked_form(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("tiny").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("spatial_decay"):
                parameter.mul_(60)
    path = tmp_path / "far.onnx"
    assert export_onnx(model, CheckpointInfo("tiny"), path, imgsz=(64, 64)).max_error < 1e-4
    functions = {function.name: function for function in onnx.load(path).functions}
    operators = {node.op_type for node in functions["BiWKV"].node}
    assert "CumSum" not in operators


def test_several_classes_and_the_unet(tmp_path: Path) -> None:
    model = create_model("unet", num_classes=3).eval()
    info = CheckpointInfo("unet", 3, ("background", "polyp", "tool"))
    path = tmp_path / "unet.onnx"
    export_onnx(model, info, path, imgsz=(32, 32))
    runner = OnnxRuntimeRunner(path)
    assert runner.info.names == info.names
    probability = runner(np.zeros((1, 32, 32, 3), np.uint8))
    np.testing.assert_allclose(probability.sum(1), 1, atol=1e-5)


def test_a_file_that_differs_from_torch_is_not_written(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong function body must not get past the check."""
    import rwkv_edge.export.onnx as module

    def wrong(reach: float, opset: int) -> onnx.FunctionProto:
        function = module_function(reach, opset)
        for node in function.node:
            if node.op_type == "CumSum":
                del node.attribute[:]  # no longer exclusive
        return function

    module_function = module.bi_wkv_function
    monkeypatch.setattr(module, "bi_wkv_function", wrong)
    with pytest.raises(ExportError, match="differs from Torch"):
        export_onnx(network, CheckpointInfo("tiny"), tmp_path / "x.onnx", imgsz=(64, 64))
    assert list(tmp_path.iterdir()) == []


def test_impossible_arguments(network: torch.nn.Module, tmp_path: Path) -> None:
    info, path = CheckpointInfo("tiny"), tmp_path / "x.onnx"
    with pytest.raises(UsageError, match="100 is not a positive multiple of 16; try 96"):
        export_onnx(network, info, path, imgsz=(100, 128))
    with pytest.raises(UsageError, match="--batch 0"):
        export_onnx(network, info, path, imgsz=(64, 64), batch=0)
    with pytest.raises(UsageError, match="--opset 9"):
        export_onnx(network, info, path, imgsz=(64, 64), opset=9)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot create"):
        export_onnx(network, info, tmp_path / "file" / "x.onnx", imgsz=(64, 64))


def test_torch_and_onnxruntime_runners_agree(
    network: torch.nn.Module, exported: Path, tmp_path: Path
) -> None:
    from rwkv_edge.models import save_checkpoint

    weights = tmp_path / "w.safetensors"
    save_checkpoint(weights, network.state_dict(), CheckpointInfo("tiny", imgsz=(64, 96)))
    images = np.random.default_rng(1).integers(0, 256, (2, 64, 96, 3), np.uint8)
    with TorchRunner(weights) as ours, OnnxRuntimeRunner(exported) as theirs:
        assert ours.info.input_size == theirs.info.input_size == (64, 96)
        np.testing.assert_allclose(ours(images), theirs(images), atol=1e-4)
        assert "torch" in ours.backend
        assert "CPUExecutionProvider" in theirs.backend
