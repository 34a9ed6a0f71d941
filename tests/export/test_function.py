from __future__ import annotations

import numpy as np
import onnx
import onnx.inliner
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rwkv_edge.export.function import (
    LARGEST_REACH,
    bi_wkv_function,
    largest_reach,
    shift_mix_function,
)
from rwkv_edge.operators import SHIFT_MIXES
from rwkv_edge.ops import bi_wkv_ref, shift_mix_ref, shift_mix_weight

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16


def session(reach: float, dtype: int = FLOAT, opset: int = 18) -> ort.InferenceSession:
    """A model of one BiWKV node, its function chosen for `reach`, in ONNX Runtime."""
    node = helper.make_node(
        "BiWKV",
        list("wukv"),
        ["y"],
        domain="rwkv_edge",
        plugin_version="1",
        plugin_namespace="rwkv_edge",
    )
    wide = [helper.make_tensor_value_info(name, FLOAT, ["C"]) for name in "wu"]
    tokens = [helper.make_tensor_value_info(name, dtype, ["B", "T", "C"]) for name in "kvy"]
    model = helper.make_model(
        helper.make_graph([node], "one", [*wide, *tokens[:2]], tokens[2:]),
        functions=[bi_wkv_function(reach, opset)],
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("rwkv_edge", 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


def error(reach: float, tokens: int, channels: int, keys: float, dtype: int = FLOAT) -> float:
    rng = np.random.default_rng(tokens)
    kind = np.float16 if dtype == HALF else np.float32
    w = (np.linspace(-1, 1, channels) * reach / tokens).astype(np.float32)
    u = rng.normal(size=channels).astype(np.float32)
    k = rng.uniform(-keys, keys, (2, tokens, channels)).astype(kind)
    v = rng.normal(size=k.shape).astype(kind)
    y = session(abs(reach), dtype).run(None, {"w": w, "u": u, "k": k, "v": v})[0]
    assert y.dtype == kind
    expected = bi_wkv_ref(*(torch.from_numpy(x) for x in (w, u, k, v))).numpy()
    return float(np.abs(y - expected).max())


@pytest.mark.parametrize(("tokens", "channels"), [(1, 3), (2, 1), (16, 7), (97, 5), (256, 8)])
@pytest.mark.parametrize("keys", [3.0, 100.0])
@pytest.mark.parametrize("reach", [1.0, LARGEST_REACH])
def test_cumulative_form(reach: float, keys: float, tokens: int, channels: int) -> None:
    assert error(reach, tokens, channels, keys) < 2e-5


@pytest.mark.parametrize(("tokens", "channels"), [(1, 3), (15, 2), (16, 7), (17, 5), (257, 8)])
@pytest.mark.parametrize("keys", [3.0, 100.0])
@pytest.mark.parametrize("reach", [LARGEST_REACH + 1, 300.0])
def test_chunked_form(reach: float, keys: float, tokens: int, channels: int) -> None:
    """Logits of several hundred keep five digits in float32: 5e-5."""
    assert error(reach, tokens, channels, keys) < 5e-5


@pytest.mark.parametrize("reach", [1.0, 300.0])
def test_half_precision_in_and_out(reach: float) -> None:
    assert error(reach, 97, 5, 5.0, HALF) < 2e-3


def test_the_range_decides_the_form() -> None:
    assert largest_reach([np.array([1.0, -50.0]), np.array([3.0])]) == 50.0
    assert largest_reach([]) == 0.0
    operators = [{n.op_type for n in bi_wkv_function(r, 18).node} for r in (40.0, 41.0)]
    assert "CumSum" in operators[0]
    assert "CumSum" not in operators[1]


@pytest.mark.parametrize("dtype", [FLOAT, HALF])
@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (2, 7, 5, 3), (1, 3, 2, 4), (2, 96, 6, 8)])
@pytest.mark.parametrize("mixes", SHIFT_MIXES)
def test_shift_mix(mixes: int, shape: tuple[int, ...], dtype: int) -> None:
    """One node whose weights, constants of the file, reach the convolutions as constants."""
    kind = np.float16 if dtype == HALF else np.float32
    rng = np.random.default_rng(shape)
    x, ratios = rng.normal(size=shape).astype(kind), rng.random((mixes, shape[1]))
    weights = [shift_mix_weight(torch.from_numpy(r)).numpy().astype(kind) for r in ratios]
    names = [f"w{n}" for n in range(mixes)], [f"y{n}" for n in range(mixes)]
    node = helper.make_node(
        SHIFT_MIXES[mixes],
        ["x", *names[0]],
        names[1],
        domain="rwkv_edge",
        group=shape[1],
        plugin_version="1",
        plugin_namespace="rwkv_edge",
    )
    maps = [helper.make_tensor_value_info(n, dtype, list("NHWC")) for n in names[1]]
    model = helper.make_model(
        helper.make_graph(
            [node],
            "one",
            [helper.make_tensor_value_info("x", dtype, shape)],
            maps,
            [numpy_helper.from_array(w, n) for n, w in zip(names[0], weights, strict=True)],
        ),
        functions=[shift_mix_function(mixes, 18)],
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("rwkv_edge", 1)],
        ir_version=10,
    )
    onnx.checker.check_model(model, full_check=True)
    inlined = onnx.inliner.inline_local_functions(model)
    convolutions = [n for n in inlined.graph.node if n.op_type == "Conv"]
    assert [n.input[1] for n in convolutions] == names[0]
    one = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    for mixed, ratio in zip(one.run(None, {"x": x}), ratios, strict=True):
        assert mixed.dtype == kind
        expected = shift_mix_ref(torch.from_numpy(x), torch.from_numpy(ratio)).numpy()
        assert np.abs(mixed - expected).max() < (5e-3 if dtype == HALF else 1e-6)
