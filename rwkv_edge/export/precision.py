"""float16 and bfloat16: the same graph with its types written out, for strongly typed runtimes.

Weights and activations become 16 bits wide. float32 stay: the statistics of norms, softmax and
means, squares (which leave float16 at 256), bi-WKV's w and u and, inside the operator, its state;
the layer that makes the probabilities; input (uint8) and output (float32) of the whole.
"""

from __future__ import annotations

from collections.abc import Collection

import ml_dtypes
import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from rwkv_edge.export.graph import copy_model, infer_types, prune_initializers, raise_opset
from rwkv_edge.operators import BI_WKV

FLOAT32_OPERATORS = frozenset(
    {"LayerNormalization", "BatchNormalization", "Softmax", "ReduceMean", "Pow"}
)
_FLOAT32_INPUTS = {"Resize": (1, 2), BI_WKV: (0, 1)}
"""Inputs that the operator wants in float32 whatever the others are: scales; w and u."""

_ELEMENTS = {"float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16}
_NUMPY = {"float16": np.dtype(np.float16), "bfloat16": np.dtype(ml_dtypes.bfloat16)}
_BFLOAT16_OPSET = 22
"""The first whose convolution takes bfloat16."""


def to_16_bits(model: ModelProto, dtype: str, keep: Collection[str] = ()) -> ModelProto:
    """Return the model with 16-bit weights and activations.

    Args:
        model: float32, or float32 with Q/DQ nodes of opset 19.
        dtype: 'float16' or 'bfloat16'.
        keep: names of nodes that stay in float32.
    """
    result = copy_model(model)
    if dtype == "bfloat16":
        raise_opset(result, _BFLOAT16_OPSET)
    writer = _Writer(result, infer_types(model), dtype)
    outputs = {value.name for value in result.graph.output}
    for node in list(result.graph.node):
        wide = node.op_type in FLOAT32_OPERATORS or _is_square(node) or node.name in keep
        writer.add(node, wide=wide or not outputs.isdisjoint(node.output))
    del result.graph.node[:]
    result.graph.node.extend(writer.nodes)
    prune_initializers(result)
    return result


def _is_square(node: NodeProto) -> bool:
    return node.op_type == "Mul" and node.input[0] == node.input[1]


class _Writer:
    """Copies nodes one by one and casts what they read, once for each value and type."""

    def __init__(self, model: ModelProto, values: list[ValueInfoProto], dtype: str) -> None:
        self.nodes: list[NodeProto] = []
        self._graph = model.graph
        self._dtype = dtype
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}
        floats = [v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT]
        floats += [n for n, t in self._constants.items() if t.data_type == TensorProto.FLOAT]
        self._types = dict.fromkeys(floats, TensorProto.FLOAT)
        self._casts: dict[tuple[str, int], str] = {}

    def add(self, node: NodeProto, *, wide: bool) -> None:
        """Append `node`, computing in float32 if `wide`, else in 16 bits."""
        element = TensorProto.FLOAT if wide else _ELEMENTS[self._dtype]
        exceptions = _FLOAT32_INPUTS.get(node.op_type, ())
        for index, name in enumerate(node.input):
            if name in self._types:
                wanted = TensorProto.FLOAT if index in exceptions else element
                node.input[index] = self._cast(name, wanted)
        if node.op_type == "Cast" and node.output[0] in self._types:
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("to", element))
        for name in node.output:
            if name in self._types:
                self._types[name] = element
        self.nodes.append(node)

    def _cast(self, name: str, element: int) -> str:
        if self._types[name] == element:
            return name
        if (name, element) not in self._casts:
            cast = f"{name}_{TensorProto.DataType.Name(element).lower()}"
            self._casts[name, element] = cast
            if name in self._constants:
                self._graph.initializer.append(self._round(self._constants[name], cast))
            else:
                self.nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=element))
        return self._casts[name, element]

    def _round(self, tensor: TensorProto, name: str) -> TensorProto:
        with np.errstate(over="ignore"):  # an infinity is for the gate to find
            values = numpy_helper.to_array(tensor).astype(_NUMPY[self._dtype])
        return numpy_helper.from_array(values, name)


def emulate_bfloat16(model: ModelProto) -> ModelProto:
    """Return a float32 model that computes what a bfloat16 one does, for runtimes without it.

    Every value that is bfloat16 in `model` is rounded to it where it is made; sums inside an
    operator are float32 in both.
    """
    result = copy_model(model)
    graph = result.graph
    narrow = {
        value.name
        for value in infer_types(model)
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.BFLOAT16:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    nodes = []
    for node in list(graph.node):
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name not in narrow:
                continue
            exact, rounded = f"{name}_exact", f"{name}_rounded"
            node.output[index] = exact
            if node.op_type == "Cast":
                node.attribute[0].i = TensorProto.FLOAT
            for before, after, to in (
                (exact, rounded, TensorProto.BFLOAT16),
                (rounded, name, TensorProto.FLOAT),
            ):
                label = f"emulate_{after}"
                nodes.append(helper.make_node("Cast", [before], [after], name=label, to=to))
    del graph.node[:]
    graph.node.extend(nodes)
    return result
