from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from rwkv_edge.errors import BackendError, MissingDependencyError, UsageError
from rwkv_edge.export import export_onnx
from rwkv_edge.models import CheckpointInfo, create_model, load_model
from rwkv_edge.ops import bi_wkv_ref
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner
from rwkv_edge.runtime.openvino import OpenVinoRunner, has_bfloat16
from rwkv_edge.runtime.openvino_function import for_openvino, triangular_function
from rwkv_edge.weights import shipped_checkpoint


def run_function(w: np.ndarray, u: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The function by itself, in ONNX Runtime, which knows functions."""
    attributes = {"plugin_version": "1", "plugin_namespace": "rwkv_edge"}
    node = helper.make_node("BiWKV", list("wukv"), ["y"], domain="rwkv_edge", **attributes)
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["C"]) for name in "wu"]
    shape = ["B", "T", "C"]
    maps = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "kvy"]
    model = helper.make_model(
        helper.make_graph([node], "one", [*rows, *maps[:2]], maps[2:]),
        functions=[triangular_function(18)],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("rwkv_edge", 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"w": w, "u": u, "k": k, "v": v})[0]


@pytest.mark.parametrize(("tokens", "channels"), [(1, 3), (31, 1), (32, 7), (33, 5), (256, 8)])
@pytest.mark.parametrize("keys", [3.0, 100.0])
@pytest.mark.parametrize("reach", [1.0, 40.0])
def test_triangular_form(reach: float, keys: float, tokens: int, channels: int) -> None:
    rng = np.random.default_rng(tokens)
    w = (np.linspace(-1, 1, channels) * reach / tokens).astype(np.float32)
    u = rng.normal(size=channels).astype(np.float32)
    k = rng.uniform(-keys, keys, (2, tokens, channels)).astype(np.float32)
    v = rng.normal(size=k.shape).astype(np.float32)
    expected = bi_wkv_ref(*(torch.from_numpy(x) for x in (w, u, k, v))).numpy()
    np.testing.assert_allclose(run_function(w, u, k, v), expected, atol=2e-5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped weights at 64 x 96, two pictures a call."""
    network, info = load_model(shipped_checkpoint("tiny"))
    path = tmp_path_factory.mktemp("openvino") / "tiny.onnx"
    export_onnx(network, info, path, imgsz=(64, 96), batch=2)
    return path


@pytest.fixture(scope="module")
def images() -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)


def test_what_it_runs_has_no_functions_and_no_cumulative_sums(exported: Path) -> None:
    model = for_openvino(onnx.load(exported))
    operators = {node.op_type for node in model.graph.node}
    assert not model.functions
    assert not {"BiWKV", "CumSum"} & operators


def test_the_same_as_onnxruntime(exported: Path, images: UInt8Array) -> None:
    pytest.importorskip("openvino")
    with OpenVinoRunner(exported, 1, "fp32") as ours, OnnxRuntimeRunner(exported, 1) as theirs:
        assert ours.info == theirs.info
        np.testing.assert_allclose(ours(images), theirs(images), atol=1e-4)
        first = ours(images[:1])
        ours(images[1:])
        np.testing.assert_allclose(first, theirs(images[:1]), atol=1e-4)  # not overwritten
        assert ours.backend.startswith("openvino 20")
        assert ours.backend.endswith("fp32")


def test_bfloat16_or_a_plain_word(exported: Path, images: UInt8Array) -> None:
    pytest.importorskip("openvino")
    try:
        runner = OpenVinoRunner(exported, 1, "bf16")
    except BackendError as error:
        assert "no bfloat16" in str(error)  # noqa: PT017
        return
    theirs = OnnxRuntimeRunner(exported, 1)(images)
    assert np.abs(runner(images) - theirs).mean() < 0.01


def test_extreme_decays_keep_their_guarded_form(tmp_path: Path, images: UInt8Array) -> None:
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    model = create_model("tiny").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("spatial_decay"):
                parameter.mul_(60)
    path = tmp_path / "far.onnx"
    export_onnx(model, CheckpointInfo("tiny"), path, imgsz=(64, 96))
    ours, theirs = OpenVinoRunner(path, 1, "fp32"), OnnxRuntimeRunner(path, 1)
    np.testing.assert_allclose(ours(images[:1]), theirs(images[:1]), atol=1e-4)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"m\.onnx") as caught:
        OpenVinoRunner(path)
    assert "\n" not in str(caught.value)


def test_missing_file_package_and_precision(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendError, match="no such file"):
        OpenVinoRunner(tmp_path / "none.onnx")
    with pytest.raises(UsageError, match="choose fp32 or bf16"):
        OpenVinoRunner(exported, precision="int3")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'rwkv-edge\[openvino\]'"):
        OpenVinoRunner(exported)


def test_external_data_is_never_opened(exported: Path, tmp_path: Path) -> None:
    """A hostile file that points its weights at a file of the system."""
    model = onnx.load(exported)
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    length = len(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in (("location", "../../../../../../etc/passwd"), ("length", str(length))):
        tensor.external_data.add(key=key, value=text)
    (tmp_path / "h.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BackendError, match=r"h\.onnx"):
        OpenVinoRunner(tmp_path / "h.onnx")


def test_bfloat16_is_read_from_the_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    for flag in ("amx_bf16", "avx512_bf16"):
        cpuinfo.write_text(f"flags : fpu avx512f {flag} amx_tile\n")
        assert has_bfloat16(cpuinfo)
    cpuinfo.write_text("flags : fpu avx512f avx512_vnni amx_tile\n")
    assert not has_bfloat16(cpuinfo)
    assert not has_bfloat16(tmp_path / "none")
