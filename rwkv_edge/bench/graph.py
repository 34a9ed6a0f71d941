"""What an exported graph costs: bytes and operations of its nodes, and the groups they run in.

A group is what a runtime does in one pass over memory, as TensorRT forms them: a convolution or a
product with the bias, activation and residual behind it; a chain of element-wise operators; a
normalisation; each of our own operators, whatever function defines it. Only what enters and leaves
a group costs memory traffic.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx
from onnx import ModelProto, NodeProto

from rwkv_edge.errors import BackendError
from rwkv_edge.operators import BI_WKV, SHIFT_MIXES

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_PRODUCTS = frozenset({"MatMul", "Gemm"})
# fmt: off
_POINTWISE = frozenset((
    "Abs", "Add", "BatchNormalization", "Cast", "CastLike", "Clip", "Div", "Equal", "Exp",
    "Greater", "HardSigmoid", "HardSwish", "LeakyRelu", "Less", "Log", "Max", "Min", "Mul", "Neg",
    "Pow", "PRelu", "Relu", "Sigmoid", "Softplus", "Sqrt", "Sub", "Sum", "Tanh", "Where",
))
# No work of their own: a runtime writes the parts of a Concat where they belong.
_VIEWS = frozenset((
    "Concat", "Expand", "Flatten", "Identity", "Reshape", "Split", "Squeeze", "Unsqueeze",
))
# fmt: on
_SLOW = frozenset({"Exp", "Log", "Sigmoid", "Softplus", "Tanh"})
_SLOW_OPERATIONS = 16
"""Of an exponential: the special-function units do an eighth of the fused multiply-adds a clock."""
_BI_WKV_OPERATIONS = 2 * _SLOW_OPERATIONS + 24
"""A token and channel: two exponentials, and the two scans."""
_SHIFT_MIX_OPERATIONS = 3
"""An element of a mix: two taps."""
_MOVES = frozenset({"Gather", "Pad", "Slice", "Transpose"})
"""Copies, which a good runtime folds into the reads of whoever comes next."""
_REARRANGING = frozenset({"Concat", "Expand", "Gather", "Pad", "Slice", "Split"})
"""Behind these an element-wise node works on other elements than the group before them."""
_NAMED = 3
"""Operators of a group that are listed."""
_ELEMENTWISE_COST = {"LayerNormalization": 8, "Softmax": 4 + _SLOW_OPERATIONS, "Resize": 7}


@dataclass
class Node:
    """One node of the graph with its sizes in elements."""

    name: str
    op: str
    inputs: dict[str, int]
    """Elements by name of the value, constants left out."""
    outputs: dict[str, int]
    weights: int
    operations: float
    """A multiply-add counts as two."""
    on_matrix_units: bool


@dataclass
class Group:
    """Nodes that run in one pass."""

    kind: str
    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    """Elements that are read, by name of the value."""
    outputs: dict[str, int] = field(default_factory=dict)
    """Elements that are written because somebody else reads them."""

    @property
    def weights(self) -> int:
        """Elements of weights that are read."""
        return sum(node.weights for node in self.nodes)

    def operations(self, *, on_matrix_units: bool) -> float:
        """Operations on the matrix units, or on all others."""
        return sum(n.operations for n in self.nodes if n.on_matrix_units == on_matrix_units)

    @property
    def operators(self) -> str:
        """The first operators, and how many more there are."""
        more = f"+{len(self.nodes) - _NAMED}" if len(self.nodes) > _NAMED else ""
        return "+".join(node.op for node in self.nodes[:_NAMED]) + more


def read_nodes(model: ModelProto, batch: int = 1) -> list[Node]:
    """Return the nodes of a model in the order of the graph.

    Args:
        model: of `rwkv-edge export`.
        batch: pictures in one call, where the model leaves it open.

    Raises:
        BackendError: a shape cannot be inferred, or an operator is unknown.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    for value in (*copy.graph.input, *copy.graph.output):
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_value:
            first.dim_value = batch
    graph = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    constants = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = dict(constants)
    for value in (*graph.input, *graph.value_info, *graph.output):
        sides = value.type.tensor_type.shape.dim
        if all(side.HasField("dim_value") for side in sides):
            shapes[value.name] = tuple(side.dim_value for side in sides)
    constants |= {
        name: () for node in graph.node if node.op_type == "Constant" for name in node.output
    }
    return [
        _read_node(node, shapes, constants) for node in graph.node if node.op_type != "Constant"
    ]


def _read_node(
    node: NodeProto, shapes: dict[str, tuple[int, ...]], constants: dict[str, tuple[int, ...]]
) -> Node:
    missing = [name for name in node.output if name and name not in shapes]
    if missing:
        raise BackendError(f"the shape of {missing[0]} ({node.op_type}) cannot be inferred")
    given = [name for name in node.input if name and name not in constants]
    weights = [name for name in node.input if name in constants]
    outputs = {name: math.prod(shapes[name]) for name in node.output if name}
    operations, on_matrix_units = _operations(node, shapes, sum(outputs.values()))
    return Node(
        node.name or node.output[0],
        node.op_type,
        {name: math.prod(shapes[name]) for name in given},
        outputs,
        sum(math.prod(constants[name]) for name in weights),
        operations,
        on_matrix_units,
    )


def _operations(
    node: NodeProto, shapes: dict[str, tuple[int, ...]], outputs: int
) -> tuple[float, bool]:
    """Return operations, and whether they are the matrix units' kind."""
    op = node.op_type
    if op in _CONVOLUTIONS:
        weight = shapes[node.input[1]]  # (out, in of a group, h, w); transposed (in, out, h, w)
        groups = _attribute(node, "group", 1)
        taken = outputs if op == "Conv" else math.prod(shapes[node.input[0]])
        operations = 2.0 * taken * math.prod(weight[1:])
        return operations, groups == 1
    if op in _PRODUCTS:
        first = shapes[node.input[0]]
        inner = first[-2] if _attribute(node, "transA", 0) else first[-1]
        return 2.0 * outputs * inner, True
    if op == BI_WKV:
        return float(_BI_WKV_OPERATIONS * outputs), False
    if op in SHIFT_MIXES.values():
        return float(_SHIFT_MIX_OPERATIONS * outputs), False
    if op in _POINTWISE:
        return float(outputs * (_SLOW_OPERATIONS if op in _SLOW else 1)), False
    if op in _VIEWS or op in _MOVES:
        return 0.0, False
    if op in _ELEMENTWISE_COST:
        return float(outputs * _ELEMENTWISE_COST[op]), False
    if op.startswith("Reduce") or op in ("GlobalAveragePool", "CumSum"):
        return float(math.prod(shapes[node.input[0]])), False
    if op in ("MaxPool", "AveragePool"):
        return float(outputs * math.prod(_attribute(node, "kernel_shape", [1]))), False
    raise BackendError(
        f"no cost is known for the operator {op}; is this a file of rwkv-edge export?"
    )


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    for attribute in node.attribute:
        if attribute.name == name:
            return onnx.helper.get_attribute_value(attribute)
    return default


def group_nodes(nodes: Sequence[Node], *, fuse_everything: bool = True) -> list[Group]:
    """Put nodes together that run in one pass.

    An element-wise node joins the group of its last input, if that works on the same elements:
    everything else it needs is there by then. Views vanish.

    Args:
        nodes: in the order of the graph.
        fuse_everything: chains of element-wise nodes and what follows a normalisation too, and
            copies are folded into the reads of whoever comes next. Else only bias, activation and
            residual join the convolution or product before them.
    """
    grouping = _Grouping(fuse_everything)
    for node in nodes:
        grouping.add(node)
    grouping.mark_outputs(nodes)
    return grouping.groups


class _Grouping:
    def __init__(self, fuse_everything: bool) -> None:
        self._views = _VIEWS | _MOVES if fuse_everything else _VIEWS
        self._hosts = {"convolution", "depthwise", "product"}
        if fuse_everything:
            self._hosts |= {"pointwise", "normalisation", "bi-WKV"}
        self.groups: list[Group] = []
        self._maker: dict[str, int] = {}  # value -> index of the group that makes it
        self._origin: dict[str, list[str]] = {}  # view -> the values that it shows
        self._rearranged: set[str] = set()  # views of other elements than one value's own
        self._sizes: dict[str, int] = {}

    def add(self, node: Node) -> None:
        self._sizes |= node.inputs | node.outputs
        if node.op in self._views:
            rearranged = node.op in _REARRANGING or self._rearranged & set(node.inputs)
            for output in node.outputs:
                self._origin[output] = list(dict.fromkeys(self._sources_of(node)))
                if rearranged:
                    self._rearranged.add(output)
            return
        index = self._host(node)
        if index is None:
            index = len(self.groups)
            self.groups.append(Group(_kind(node)))
        group = self.groups[index]
        group.nodes.append(node)
        self._maker |= dict.fromkeys(node.outputs, index)
        for name, size in node.inputs.items():
            for source in self._sources(name):
                if self._maker.get(source) != index:
                    read = group.inputs.get(source, 0) + size
                    group.inputs[source] = min(self._sizes[source], read)

    def mark_outputs(self, nodes: Sequence[Node]) -> None:
        """Note what each group must write: what another group reads, or nobody: the results."""
        readers: dict[str, set[int]] = {}
        for node in nodes:
            if node.op not in self._views:
                reader = self._maker[next(iter(node.outputs))]
                for source in self._sources_of(node):
                    readers.setdefault(source, set()).add(reader)
        for name, index in self._maker.items():
            if readers.get(name, set()) != {index}:
                self.groups[index].outputs[name] = self._sizes[name]

    def _host(self, node: Node) -> int | None:
        """Return the group that an element-wise node can join."""
        makers = [self._maker[name] for name in self._sources_of(node) if name in self._maker]
        if node.op not in _POINTWISE or not makers:
            return None
        last = max(makers)
        own = [
            name
            for name in node.inputs
            if any(self._maker.get(source) == last for source in self._sources(name))
        ]
        same = all(
            name not in self._rearranged and node.inputs[name] == max(node.outputs.values())
            for name in own
        )
        return last if same and self.groups[last].kind in self._hosts else None

    def _sources(self, name: str) -> list[str]:
        return self._origin.get(name, [name])

    def _sources_of(self, node: Node) -> list[str]:
        return [source for name in node.inputs for source in self._sources(name)]


def _kind(node: Node) -> str:
    if node.op in _CONVOLUTIONS:
        return "convolution" if node.on_matrix_units else "depthwise"
    kinds = {
        "product": _PRODUCTS,
        "pointwise": _POINTWISE,
        "copy": _MOVES,
        "bi-WKV": {BI_WKV},
        "shift and mix": set(SHIFT_MIXES.values()),
        "normalisation": {"LayerNormalization", "Softmax"},
        "resize": {"Resize"},
    }
    return next((kind for kind, operators in kinds.items() if node.op in operators), "reduction")
