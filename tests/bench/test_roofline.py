from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, parser

from rwkv_edge.bench.devices import DEVICES, GPU_EFFICIENCY, PRECISIONS, device_rates
from rwkv_edge.bench.graph import Node, group_nodes, read_nodes
from rwkv_edge.bench.roofline import Efficiency, Rates, Shares, estimate
from rwkv_edge.errors import BackendError
from rwkv_edge.weights import shipped_onnx

EXACT = Efficiency(Shares(), Shares())
RATES = Rates(matrix=1e9, vector=1e8, bandwidth=1e6, launch=(0.5, 2.0))


def graph(
    body: str, inputs: str = "float[1,8,4,4] x", outputs: str = "float[1,8,4,4] y"
) -> ModelProto:
    """A model with a weight W (8,8,1,1), a depthwise one D (8,1,3,3) and a bias B (8,1,1)."""
    model = parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : 18]> g ({inputs}) => ({outputs}) {{ {body} }}'
    )
    for name, shape in {"W": (8, 8, 1, 1), "D": (8, 1, 3, 3), "B": (8, 1, 1)}.items():
        model.graph.initializer.append(
            onnx.numpy_helper.from_array(np.ones(shape, np.float32), name)
        )
    return model


def grouped(body: str, *, everything: bool = True) -> list[list[str]]:
    groups = group_nodes(read_nodes(graph(body)), fuse_everything=everything)
    return [[node.op for node in group.nodes] for group in groups]


@pytest.fixture(scope="module")
def tiny() -> list[Node]:
    return read_nodes(onnx.load(shipped_onnx("tiny")))


def test_a_convolution_takes_what_stands_behind_it() -> None:
    swish = "a = Conv(x, W) b = Add(a, B) s = Sigmoid(b) m = Mul(b, s) y = Add(m, x)"
    assert grouped(swish) == [["Conv", "Add", "Sigmoid", "Mul", "Add"]]
    (group,) = group_nodes(read_nodes(graph(swish)))
    assert group.inputs == {"x": 128}
    assert group.outputs == {"y": 128}
    assert group.weights == 64 + 8


def test_chains_fuse_only_where_everything_does() -> None:
    body = "a = Exp(x) b = Neg(a) c = Conv(b, W) y = Relu(c)"
    assert grouped(body) == [["Exp", "Neg"], ["Conv", "Relu"]]
    assert grouped(body, everything=False) == [["Exp"], ["Neg"], ["Conv", "Relu"]]


def test_a_node_waits_for_its_last_input() -> None:
    """The sum cannot join the first convolution, for the second is not done by then."""
    body = "a = Conv(x, W) b = Exp(a) c = Conv(b, W) y = Add(a, c)"
    assert grouped(body) == [["Conv", "Exp"], ["Conv", "Add"]]
    first, second = group_nodes(read_nodes(graph(body)))
    assert set(first.outputs) == {"a", "b"}
    assert set(second.inputs) == {"a", "b"}


def test_a_shifted_picture_is_no_element_wise_neighbour() -> None:
    body = """a = Conv(x, W)
        p = Constant<value_ints = [0,0,0,1,0,0,0,0]>()
        s = Constant<value_ints = [0]>() e = Constant<value_ints = [4]>()
        t = Constant<value_ints = [3]>()
        b = Pad(a, p) c = Slice(b, s, e, t) y = Sub(a, c)"""
    assert grouped(body) == [["Conv"], ["Sub"]]
    assert grouped(body, everything=False) == [["Conv"], ["Pad"], ["Slice"], ["Sub"]]


def test_a_concatenation_costs_nothing_and_parts_are_read_once() -> None:
    body = """a, b = Split<axis = 1, num_outputs = 2>(x) c = Relu(a) d = Exp(b)
        y = Concat<axis = 1>(c, d)"""
    first, second = group_nodes(read_nodes(graph(body)))
    assert first.inputs == second.inputs == {"x": 64}
    assert (first.outputs, second.outputs) == ({"c": 64}, {"d": 64})


@pytest.mark.parametrize(
    ("body", "operations", "dense"),
    [
        ("y = Conv(x, W)", 2 * 128 * 8, True),
        ("y = Conv<group = 8, pads = [1,1,1,1]>(x, D)", 2 * 128 * 9, False),
        ("y = Add(x, x)", 128, False),
        ("y = Sigmoid(x)", 128 * 16, False),
    ],
)
def test_operations(body: str, operations: int, dense: bool) -> None:
    (node,) = read_nodes(graph(body))
    assert (node.operations, node.on_matrix_units) == (operations, dense)


def test_transposed_convolution_counts_its_input() -> None:
    model = parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 18]> g (float[1,8,4,4] x, float[8,3,2,2] w) '
        "=> (float[1,3,8,8] y) { y = ConvTranspose<strides = [2,2]>(x, w) }"
    )
    (node,) = read_nodes(model)
    assert node.operations == 2 * (8 * 4 * 4) * 3 * 2 * 2


def test_the_bound_is_the_roofline() -> None:
    slow_memory = estimate(read_nodes(graph("y = Conv(x, W)")), RATES, EXACT, "fp32")
    assert slow_memory.bound_s == pytest.approx(4 * (128 + 128 + 64) / 1e6)
    assert slow_memory.costs[0].limit == "memory"
    assert slow_memory.likely_s == pytest.approx(
        (slow_memory.bound_s + 0.5, slow_memory.bound_s + 2)
    )
    slow_units = Rates(matrix=1e3, vector=1, bandwidth=1e6)
    busy = estimate(read_nodes(graph("y = Conv(x, W)")), slow_units, EXACT, "fp32")
    assert busy.bound_s == pytest.approx(2 * 128 * 8 / 1e3)
    assert busy.costs[0].limit == "arithmetic"


def test_small_values_stay_in_the_cache() -> None:
    rates = Rates(1e12, 1e12, bandwidth=1.0, cache_bytes=300, cache_bandwidth=1e3)
    found = estimate(read_nodes(graph("y = Conv(x, W)")), rates, EXACT, "fp32")
    assert found.bound_s == pytest.approx(2 * 512 + 256 / 1e3)


def test_precision_halves_the_bytes_and_int8_spares_what_is_no_convolution() -> None:
    body = "a = Conv(x, W) y = LayerNormalization(a, S)"
    model = graph(body)
    scale = np.ones(4, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(scale, "S"))
    sizes = {p: estimate(read_nodes(model), RATES, EXACT, p).bytes for p in PRECISIONS}
    assert sizes["fp16"] == sizes["fp32"] / 2
    assert sizes["int8"] == (128 + 128 + 64) + 2 * (128 + 128 + 4)


def test_batch_fills_an_open_dimension() -> None:
    model = graph("y = Conv(x, W)", 'float["n",8,4,4] x', 'float["n",8,4,4] y')
    one, four = (estimate(read_nodes(model, n), RATES, EXACT, "fp32") for n in (1, 4))
    assert four.operations == 4 * one.operations


def test_what_is_unknown_is_refused() -> None:
    with pytest.raises(BackendError, match="operator Einsum"):
        read_nodes(graph('y = Einsum<equation = "abcd->abcd">(x)'))
    unknown = graph("y = Relu(x)", 'float[1,"c",4,4] x', 'float[1,"c",4,4] y')
    with pytest.raises(BackendError, match="shape of y"):
        read_nodes(unknown)


def test_tiny(tiny: list[Node]) -> None:
    dense = ("Conv", "MatMul")
    macs = sum(node.operations for node in tiny if node.op in dense) / 2
    assert macs == pytest.approx(3.22e9, rel=0.01)  # folded; as trained 3.58, the paper's figure
    bi_wkv = [g for g in group_nodes(tiny) if g.kind == "bi-WKV"]
    assert len(bi_wkv) == 4
    assert all(sum(g.inputs.values()) == 2 * sum(g.outputs.values()) for g in bi_wkv)


def test_every_device_and_precision(tiny: list[Node]) -> None:
    for device in DEVICES.values():
        for mode in device.modes.values():
            bounds = {}
            for precision in PRECISIONS:
                rates = device_rates(device, mode, precision)
                if rates is None:
                    assert mode.int8_tops is None
                    continue
                found = estimate(tiny, rates, GPU_EFFICIENCY, precision)
                low, high = found.likely_s
                assert found.bound_s < low < high
                bounds[precision] = found.bound_s
            assert bounds["fp16"] < bounds["fp32"]


def test_a_super_mode_is_not_slower(tiny: list[Node]) -> None:
    for device in DEVICES.values():
        bounds = [
            estimate(tiny, rates, GPU_EFFICIENCY, "fp16").bound_s
            for mode in device.modes.values()
            if (rates := device_rates(device, mode, "fp16"))
        ]
        assert bounds == sorted(bounds, reverse=True)
