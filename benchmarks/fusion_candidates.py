#!/usr/bin/env python3
"""What each candidate for a fused operator would save: bytes between operators, from the graph.

    python benchmarks/fusion_candidates.py [ONNX]

Counts the bytes that one picture moves to and from memory, float16, before and after the nodes of a
candidate become one, for two ways in which TensorRT may group the others: only bias, activation and
residual join the convolution or product before them, and every Transpose is a pass of its own; or
everything that can be fused is, and copies cost nothing. Default: Tiny at 256 x 256, exported now.
No GPU is needed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto
from onnx.inliner import inline_selected_functions

from rwkv_edge.bench.graph import Node, group_nodes, read_nodes
from rwkv_edge.export import export_onnx
from rwkv_edge.models import load_model
from rwkv_edge.weights import shipped_checkpoint

FLOAT16 = 2
SIZE = (256, 256)


class Graph:
    """The nodes of a model, and who makes and reads their values."""

    def __init__(self, model: ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}

    def readers(self, node: NodeProto, operator: str) -> list[NodeProto]:
        """The nodes of one kind that read what `node` makes."""
        return [
            n
            for n in self.nodes
            if n.op_type == operator and not set(node.output).isdisjoint(n.input)
        ]

    def walk(self, node: NodeProto, *operators: str) -> Iterator[NodeProto]:
        """`node`, and the chain of these operators behind it, as far as it goes."""
        yield node
        for operator in operators:
            following = self.readers(node, operator)
            if following:
                node = following[0]
                yield node


def shifts_and_mixes(graph: Graph) -> Iterator[list[NodeProto]]:
    """The depthwise 3x3 convolutions of one map, with the Transpose behind each."""
    groups: dict[str, list[NodeProto]] = {}
    for node in graph.nodes:
        if node.op_type == "Conv" and graph.weights[node.input[1]][1:] == (1, 3, 3):
            groups.setdefault(node.input[0], []).extend(graph.walk(node, "Transpose"))
    yield from groups.values()


def bi_wkv_norm_gate(graph: Graph) -> Iterator[list[NodeProto]]:
    """bi-WKV, its LayerNorm, and the product with the sigmoid."""
    for node in graph.nodes:
        if node.op_type == "BiWKV":
            chain = list(graph.walk(node, "LayerNormalization", "Reshape", "Mul"))
            yield [
                *chain,
                *(graph.makers[name] for name in chain[-1].input if _is_gate(graph, name)),
            ]


def channel_norms(graph: Graph) -> Iterator[list[NodeProto]]:
    """LayerNorm over channels between two Transposes."""
    for node in graph.nodes:
        if node.op_type == "Transpose":
            chain = list(graph.walk(node, "LayerNormalization", "Transpose"))
            if [n.op_type for n in chain] == ["Transpose", "LayerNormalization", "Transpose"]:
                yield chain


def channel_mix(graph: Graph) -> Iterator[list[NodeProto]]:
    """ChannelMix's square with its LayerNorm; its gate with the LayerNorm behind."""
    for node in graph.nodes:
        if node.op_type != "Mul":
            continue
        chain = list(graph.walk(node, "LayerNormalization"))
        if node.input[0] == node.input[1]:
            yield chain
        elif len(chain) == 2:
            yield [*chain, *(graph.makers[name] for name in node.input if _is_gate(graph, name))]


CANDIDATES: dict[str, Callable[[Graph], Iterator[list[NodeProto]]]] = {
    "q-shift and its mixes": shifts_and_mixes,
    "bi-WKV, LayerNorm, gate": bi_wkv_norm_gate,
    "channel LayerNorm in NCHW": channel_norms,
    "ChannelMix's norm and gate": channel_mix,
}


def _is_gate(graph: Graph, name: str) -> bool:
    return name in graph.makers and graph.makers[name].op_type == "Sigmoid"


def fuse(nodes: Sequence[Node], names: set[str], given: set[str]) -> tuple[list[Node], Node]:
    """Make the nodes with these names one.

    Args:
        nodes: of a graph.
        names: of some of them.
        given: the graph's inputs.

    Returns:
        The nodes after that, in an order that works, and the new one.
    """
    parts = [node for node in nodes if node.name in names]
    others = [node for node in nodes if node.name not in names]
    made = {name for node in parts for name in node.outputs}
    read = {name for node in others for name in node.inputs}
    merged = Node(
        parts[0].name,
        "ReduceMax",  # a kind of pass that nothing joins, as nothing joins a plugin
        {name: n for node in parts for name, n in node.inputs.items() if name not in made},
        {name: n for node in parts for name, n in node.outputs.items() if name in read},
        sum(node.weights for node in parts),
        0.0,
        on_matrix_units=False,
    )
    ordered: list[Node] = []
    known, waiting = set(given), [merged, *others]
    while waiting:
        node = next(node for node in waiting if set(node.inputs) <= known)
        waiting.remove(node)
        ordered.append(node)
        known |= set(node.outputs)
    return ordered, merged


def traffic(nodes: Iterable[Node], *, everything: bool) -> float:
    """Megabytes that the groups of these nodes move."""
    groups = group_nodes(list(nodes), fuse_everything=everything)
    moved = sum(sum(g.inputs.values()) + sum(g.outputs.values()) + g.weights for g in groups)
    return moved * FLOAT16 / 1e6


def main() -> None:
    if len(sys.argv) > 1:
        model = onnx.load(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "tiny.onnx"
            export_onnx(*load_model(shipped_checkpoint("tiny")), path, imgsz=SIZE)
            model = onnx.load(path)
    # bi-WKV stays one node; everything else is counted as it stands without our kernels.
    others = [(f.domain, f.name) for f in model.functions if f.name != "BiWKV"]
    model = inline_selected_functions(model, others)
    graph, nodes = Graph(model), read_nodes(model)
    given = {value.name for value in model.graph.input}
    before = [traffic(nodes, everything=everything) for everything in (False, True)]
    print(f"the whole graph: {before[0]:.1f} MB a picture, {before[1]:.1f} where all is fused")
    print("| candidate | kernels | bytes before | after | saved | saved where all is fused |")
    print("|---|---|---|---|---|---|")
    for title, find in CANDIDATES.items():
        fused, kernels = list(nodes), []
        for members in find(graph):
            fused, kernel = fuse(fused, {n.name or n.output[0] for n in members}, given)
            kernels.append(kernel)
        after = sum(traffic([kernel], everything=False) for kernel in kernels)
        saved = [
            b - traffic(fused, everything=e) for b, e in zip(before, (False, True), strict=True)
        ]
        print(
            f"| {title} | {len(kernels)} | {after + saved[0]:.1f} MB | {after:.1f} MB "
            f"| {saved[0]:.1f} MB ({saved[0] / before[0]:.0%}) | {saved[1]:.1f} MB |"
        )


if __name__ == "__main__":
    main()
