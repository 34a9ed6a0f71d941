"""From float32 to a lower precision, through the gate: what does not pass is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from onnx import ModelProto

from rwkv_edge.errors import ExportError
from rwkv_edge.export.gate import GateResult, Network, compare, predict, rank_layers
from rwkv_edge.export.graph import layer_groups
from rwkv_edge.export.precision import emulate_bfloat16, to_16_bits
from rwkv_edge.export.quantize import OPERATORS, Quantizer
from rwkv_edge.preprocess import UInt8Array

_DTYPES = {"fp16": "float16", "bf16": "bfloat16"}
RANKING_IMAGES = 4
"""Enough to order layers; the gate itself uses all images."""
SHOWN_LAYERS = 5

Bar = Callable[[str, int], AbstractContextManager[Callable[[], None]]]
"""Title and total to a context that yields a function to call after each step."""


@dataclass(frozen=True)
class Lowered:
    """A model of lower precision that passed the gate."""

    model: ModelProto
    gate: GateResult
    unquantised_layers: tuple[str, ...] = ()
    """Layers that int8 was kept away from, by measurement; they are float16."""


class Lowering:
    """Converts one float32 model and compares every result with it.

    Args:
        model: float32, from `read_onnx`.
        images: (H, W, 3) uint8 BGR each, of the model's input size, letterboxed.
        open_network: opens a model on a runtime that has no bfloat16.
        max_dice_drop: of the gate, 0..1.
        bar: shows progress.
    """

    def __init__(
        self,
        model: ModelProto,
        images: Sequence[UInt8Array],
        open_network: Callable[[ModelProto], Network],
        max_dice_drop: float,
        bar: Bar,
    ) -> None:
        self._model, self._images = model, images
        self._open, self._max_drop, self._bar = open_network, max_dice_drop, bar
        self._expected = list(predict(open_network(model), images))

    def __call__(self, precision: str) -> Lowered:
        """Return the model in 'fp16', 'bf16' or 'int8' (with float16 between).

        Raises:
            ExportError: the gate refuses; the message names the layers that hurt most.
        """
        return self._quantise() if precision == "int8" else self._shorten(precision)

    def _shorten(self, precision: str) -> Lowered:
        dtype = _DTYPES[precision]
        model = to_16_bits(self._model, dtype)
        result = self._compare(model)
        if result.passes(self._max_drop):
            return Lowered(model, result)
        layers = layer_groups(self._model)
        everything = {name for nodes in layers.values() for name in nodes}

        def judge(nodes: Sequence[str]) -> GateResult:
            candidate = to_16_bits(self._model, dtype, everything - set(nodes))
            return self._compare(candidate, RANKING_IMAGES)

        ranking = self._rank(judge, layers) if result.reference_pixels else {}
        raise self._refusal(precision, result, ranking)

    def _quantise(self) -> Lowered:
        """Quantise everything, then less: without the 1, 2, 4, ... worst layers, at most half."""
        self._shorten("fp16")  # what is not int8 is float16, which must stand on its own
        with self._bar("measuring ranges", len(self._images)) as advance:
            quantizer = Quantizer(self._model, self._images, advance)
        layers = self._quantisable_layers()
        everything = {name for nodes in layers.values() for name in nodes}

        def judge(nodes: Sequence[str]) -> GateResult:
            return self._compare(quantizer(everything - set(nodes)), RANKING_IMAGES)

        ranking: dict[str, float] = {}
        left_out: tuple[str, ...] = ()
        while True:
            keep = {node for layer in left_out for node in layers[layer]}
            model = to_16_bits(quantizer(keep), "float16")
            result = self._compare(model)
            if result.passes(self._max_drop):
                return Lowered(model, result, left_out)
            ranking = ranking or self._rank(judge, layers)
            most = len(layers) // 2
            if len(left_out) == most:
                raise self._refusal("int8", result, ranking, most)
            left_out = tuple(ranking)[: min(most, max(1, 2 * len(left_out)))]

    def _quantisable_layers(self) -> dict[str, list[str]]:
        kinds = {node.name: node.op_type for node in self._model.graph.node}
        layers = {
            layer: [name for name in nodes if kinds[name] in OPERATORS]
            for layer, nodes in layer_groups(self._model).items()
        }
        return {layer: nodes for layer, nodes in layers.items() if nodes}

    def _compare(self, model: ModelProto, count: int | None = None) -> GateResult:
        network = self._open(emulate_bfloat16(model))
        return compare(self._expected[:count], predict(network, self._images[:count]))

    def _rank(
        self, judge: Callable[[Sequence[str]], GateResult], layers: dict[str, list[str]]
    ) -> dict[str, float]:
        with self._bar("measuring layers", len(layers)) as advance:
            return rank_layers(judge, layers, advance)

    def _refusal(
        self,
        precision: str,
        result: GateResult,
        ranking: dict[str, float],
        left_out: int = 0,
    ) -> ExportError:
        worst = [f"{name} {drop:.4f}" for name, drop in ranking.items() if drop > 0][:SHOWN_LAYERS]
        without = f" even without its {left_out} worst layers" if left_out else ""
        reason = result.refusal(f"{precision}{without}", self._max_drop)
        if not result.reference_pixels:
            return ExportError(reason)
        return ExportError(
            f"{reason}; the layers that hurt most: {', '.join(worst) or 'none alone'}; take a "
            "higher --precision, or allow a larger --max-dice-drop"
        )
