"""An estimate of latency from the graph: the roofline model, group by group.

A group takes at least max(bytes / bandwidth, operations / rate). The sum over the groups is the
lower bound: everything that can be fused is, copies cost nothing, every rate is the published one.
The likely range asks for more. Its best end takes the shares of the rates that good kernels reach,
and the least launch overhead. Its worst end takes the shares of poor kernels, fuses only what
stands directly behind a convolution or product, and pays for every copy.

Values that stay in a cache move faster than memory; where `cache_bandwidth` is not known this is
left out of account, so small pictures on a GPU with a large cache may beat the bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwkv_edge.bench.graph import Group, Node, group_nodes

BYTES = {"fp32": 4, "fp16": 2, "int8": 1}
_QUANTISED = ("convolution", "depthwise", "product")


@dataclass(frozen=True)
class Rates:
    """What a machine does a second, at most."""

    matrix: float
    """Operations of dense convolutions and products; a multiply-add counts as two."""
    vector: float
    """All other operations: depthwise convolutions, element-wise, norms."""
    bandwidth: float
    """Bytes, to and from memory together."""
    launch: tuple[float, float] = (0.0, 0.0)
    """Seconds that a group costs whatever it does: least and most."""
    cache_bytes: int = 0
    """Values of at most this size stay in a cache; 0: unknown, everything goes to memory."""
    cache_bandwidth: float = 0.0


@dataclass(frozen=True)
class Shares:
    """The shares of the rates that kernels reach."""

    matrix: float = 1.0
    vector: float = 1.0
    bandwidth: float = 1.0


@dataclass(frozen=True)
class Efficiency:
    """What poor kernels reach, and good ones."""

    poor: Shares
    good: Shares


@dataclass(frozen=True)
class Cost:
    """One group of the best grouping."""

    name: str
    """Of the first node."""
    operators: str
    kind: str
    bytes: float
    operations: float
    bound_s: float
    limit: str
    """What the bound comes from: 'memory' or 'arithmetic'."""
    likely_s: tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """The estimate of one graph on one machine: seconds of one call, on the device alone."""

    bound_s: float
    likely_s: tuple[float, float]
    costs: tuple[Cost, ...]
    """In the order of the graph."""
    bytes: float
    operations: float
    launches: tuple[int, int]
    """Groups of the best and of the worst grouping."""

    @property
    def most_expensive(self) -> list[Cost]:
        """The groups by the best end of their likely time, the most expensive first."""
        return sorted(self.costs, key=lambda cost: -cost.likely_s[0])


def estimate(
    nodes: Sequence[Node], rates: Rates, efficiency: Efficiency, precision: str
) -> Estimate:
    """Estimate the latency of one call.

    Args:
        nodes: of a float32 graph, from `read_nodes`.
        rates: of the machine, in the same precision.
        efficiency: the shares of these that the likely range is made with.
        precision: fp32, fp16, or int8 (fp16 wherever there is no convolution or product).
    """
    best, worst = group_nodes(nodes), group_nodes(nodes, fuse_everything=False)

    def likely(groups: Sequence[Group], shares: Shares, launch: float) -> list[float]:
        return [max(_seconds(group, rates, shares, precision)) + launch for group in groups]

    good = likely(best, efficiency.good, rates.launch[0])
    poor = likely(best, efficiency.poor, rates.launch[1])
    costs = []
    for group, low, high in zip(best, good, poor, strict=True):
        memory, arithmetic = _seconds(group, rates, Shares(), precision)
        costs.append(
            Cost(
                group.nodes[0].name,
                group.operators,
                group.kind,
                sum(_transfers(group, precision)),
                sum(node.operations for node in group.nodes),
                max(memory, arithmetic),
                "memory" if memory > arithmetic else "arithmetic",
                (low, high),
            )
        )
    return Estimate(
        sum(cost.bound_s for cost in costs),
        (sum(good), sum(likely(worst, efficiency.poor, rates.launch[1]))),
        tuple(costs),
        sum(cost.bytes for cost in costs),
        sum(cost.operations for cost in costs),
        (len(best), len(worst)),
    )


def _seconds(group: Group, rates: Rates, shares: Shares, precision: str) -> tuple[float, float]:
    """Return the time of memory traffic and the time of arithmetic."""
    memory = 0.0
    for size in _transfers(group, precision):
        stays = 0 < size <= rates.cache_bytes
        memory += size / (rates.cache_bandwidth if stays else rates.bandwidth)
    arithmetic = group.operations(on_matrix_units=True) / (rates.matrix * shares.matrix)
    # both kinds of unit work at the same time
    other = group.operations(on_matrix_units=False) / (rates.vector * shares.vector)
    return memory / shares.bandwidth, max(arithmetic, other)


def _transfers(group: Group, precision: str) -> list[float]:
    """Return the bytes of each value that the group reads or writes."""
    if precision == "int8" and group.kind not in _QUANTISED:
        precision = "fp16"
    elements = [*group.inputs.values(), *group.outputs.values(), group.weights]
    return [BYTES[precision] * count for count in elements]
