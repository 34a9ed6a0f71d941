"""int8: explicit Q/DQ around convolutions and linear maps, ranges measured on real images.

ONNX Runtime's quantiser writes them: int8, symmetric as TensorRT wants it, weights a channel each,
only inputs quantised, so that activations, norms and skips stay as they are. What is between, in
float32 here, becomes float16 through `precision.to_16_bits`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from rwkv_edge.export.graph import copy_model, input_shape, raise_opset
from rwkv_edge.preprocess import UInt8Array

OPERATORS = ("Conv", "MatMul")
_OPSET = 19
"""The first whose Q and DQ take float16, so that scales need no casts."""
_SMALLEST_SCALE = 2.0**-14
"""The least normal float16: a scale below it would lose digits, or vanish and divide by zero."""


class Quantizer:
    """A float32 model with the ranges of its activations, ready to be quantised in any choice.

    Args:
        model: from `read_onnx`.
        images: (H, W, 3) uint8 BGR each, of the model's input size, letterboxed.
        advance: called after each image.
    """

    def __init__(
        self,
        model: ModelProto,
        images: Sequence[UInt8Array],
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        lifted = copy_model(model)
        raise_opset(lifted, _OPSET)
        self._model = onnx.shape_inference.infer_shapes(lifted)
        with tempfile.TemporaryDirectory(prefix="rwkv-edge-") as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(self._model, path)
            calibrator = create_calibrator(
                path,
                list(OPERATORS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
            )
            calibrator.collect_data(_Reader(images, max(1, input_shape(model)[0]), advance))
            self._ranges = calibrator.compute_data()

    def __call__(self, keep: Collection[str] = ()) -> ModelProto:
        """Return the model with Q/DQ at every convolution and linear map but the nodes `keep`."""
        quantizer = QDQQuantizer(
            copy_model(self._model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=list(keep),
            op_types_to_quantize=list(OPERATORS),
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "MatMulConstBOnly": True,
                "OpTypesToExcludeOutputQuantization": list(OPERATORS),
                "MinimumRealRange": _SMALLEST_SCALE * 254,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        model: ModelProto = quantizer.model.model
        return model


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime carries no types
    """Feeds images to the calibrator, each repeated to the model's batch."""

    def __init__(
        self, images: Sequence[UInt8Array], batch: int, advance: Callable[[], None]
    ) -> None:
        self._feed = self._batches(images, batch, advance)

    @staticmethod
    def _batches(
        images: Sequence[UInt8Array], batch: int, advance: Callable[[], None]
    ) -> Iterator[dict[str, UInt8Array]]:
        for image in images:
            yield {"image": np.repeat(image[None], batch, axis=0)}
            advance()

    def get_next(self) -> dict[str, UInt8Array] | None:
        """Return the next input, None after the last; the name is the quantiser's."""
        return next(self._feed, None)
