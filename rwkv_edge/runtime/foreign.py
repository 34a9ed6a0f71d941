"""Segmentation models of other projects: any ONNX file whose preprocessing is declared in words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime as ort

from rwkv_edge.config import NORMALISATION
from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.preprocess import FloatArray, Letterbox, UInt8Array
from rwkv_edge.runtime.onnxruntime import PROVIDER

_WORDS = {
    "colour": ("rgb", "bgr"),
    "range": ("0-1", "0-255", "-1-1"),
    "normalisation": ("plain", "imagenet"),
    "fit": ("stretch", "letterbox"),
    "layout": ("nchw", "nhwc"),
    "output": ("logits", "probability"),
}
"""What can be declared; the first word of each is the default."""


@dataclass(frozen=True)
class Preprocess:
    """How another project's model wants its picture, and what it answers with."""

    colour: str = "rgb"
    range: str = "0-1"
    normalisation: str = "plain"
    """'imagenet' subtracts the mean and divides by the standard deviation of a 0..1 picture."""
    fit: str = "stretch"
    layout: str = "nchw"
    output: str = "logits"
    """'logits' become probabilities by sigmoid (one plane) or softmax (several)."""
    size: tuple[int, int] | None = None
    """Height and width, where the file leaves them open."""

    @classmethod
    def parse(cls, text: str) -> Preprocess:
        """Read words such as 'rgb,0-1,imagenet,stretch,nchw,logits,352x352', in any order.

        Raises:
            UsageError: an unknown word, or two of one kind.
        """
        found: dict[str, str] = {}
        size = None
        for word in filter(None, (part.strip().lower() for part in text.split(","))):
            kind = next((kind for kind, words in _WORDS.items() if word in words), None)
            if kind is None:
                sides = word.split("x")
                if len(sides) != 2 or not all(side.isdecimal() and int(side) for side in sides):
                    every = ", ".join("|".join(words) for words in _WORDS.values())
                    raise UsageError(f"preprocessing '{word}': choose among {every}, HEIGHTxWIDTH")
                size = (int(sides[0]), int(sides[1]))
            elif found.setdefault(kind, word) != word:
                raise UsageError(f"preprocessing: '{found[kind]}' and '{word}' exclude each other")
        chosen = cls(**found, size=size)
        if chosen.normalisation == "imagenet" and chosen.range != "0-1":
            raise UsageError("preprocessing: 'imagenet' is of pictures in 0-1")
        return chosen


class ForeignModel:
    """A segmentation model of another project in ONNX Runtime on the CPU.

    Args:
        path: ONNX file with one image input; its first output is (N, classes, H, W), (N, H, W,
            classes) or (N, H, W), and the background comes first if there is more than one class.
        preprocess: what it wants.

    Raises:
        BackendError: the file is missing or damaged, or its input is no picture.
        UsageError: it leaves its size open, and `preprocess` does not give it.
    """

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        if not path.is_file():
            raise BackendError(f"{path}: no such file")
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(path, options, providers=[PROVIDER])
        except Exception as error:  # onnxruntime's own types derive from Exception alone
            reason = str(error).splitlines()[0]
            raise BackendError(f"{path}: ONNX Runtime cannot load it ({reason})") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise BackendError(f"{path}: not a model of one picture; its inputs are {inputs}")
        self._path, self._preprocess, self._name = path, preprocess, inputs[0].name
        self._type = np.float16 if "float16" in inputs[0].type else np.float32
        shape = inputs[0].shape
        sides = shape[2:] if preprocess.layout == "nchw" else shape[1:3]
        fixed = (sides[0], sides[1]) if all(isinstance(side, int) for side in sides) else None
        if fixed and preprocess.size and fixed != preprocess.size:
            raise UsageError(f"{path}: takes {fixed[0]}x{fixed[1]}, not the size that is declared")
        size = fixed or preprocess.size
        if size is None:
            raise UsageError(f"{path}: leaves its size open; declare it, for example 352x352")
        self.input_size: tuple[int, int] = size
        self.backend = f"onnxruntime {ort.__version__} on {PROVIDER}"

    def __call__(self, image: UInt8Array) -> FloatArray:
        """Segment (h, w, 3) uint8 BGR.

        Returns:
            (classes, h, w) float32 probabilities; of two classes only the foreground.

        Raises:
            BackendError: it failed, or answers with something else than was declared.
        """
        letterbox = self._letterbox((image.shape[0], image.shape[1]))
        try:
            output = self._session.run(None, {self._name: self._input(image, letterbox)})[0]
        except Exception as error:
            reason = str(error).splitlines()[0]
            raise BackendError(f"{self._path}: ONNX Runtime failed: {reason}") from error
        return letterbox.restore(self._probability(np.asarray(output, np.float32)))

    def _letterbox(self, frame: tuple[int, int]) -> Letterbox:
        if self._preprocess.fit == "letterbox":
            return Letterbox.fit(frame, self.input_size)
        return Letterbox(frame, self.input_size, 0, 0, *self.input_size)

    def _input(self, image: UInt8Array, letterbox: Letterbox) -> np.ndarray:
        wanted = self._preprocess
        pixels = letterbox.apply(image)
        if wanted.colour == "rgb":
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
        x = pixels.astype(np.float32)
        if wanted.range == "0-1":
            x /= 255
        elif wanted.range == "-1-1":
            x = x / 127.5 - 1
        if wanted.normalisation == "imagenet":
            order = slice(None) if wanted.colour == "rgb" else slice(None, None, -1)
            x = (x - np.float32(NORMALISATION.mean[order])) / np.float32(NORMALISATION.std[order])
        x = x.transpose(2, 0, 1) if wanted.layout == "nchw" else x
        return np.ascontiguousarray(x[None], self._type)

    def _probability(self, output: FloatArray) -> FloatArray:
        if output.ndim == 3:
            output = output[:, None]
        elif self._preprocess.layout == "nhwc":
            output = output.transpose(0, 3, 1, 2)
        if output.ndim != 4:
            raise BackendError(f"{self._path}: its output is no map but of shape {output.shape}")
        x = output[0]
        if self._preprocess.output == "logits":
            x = _softmax(x) if len(x) > 1 else 1 / (1 + np.exp(-x.clip(-80, 80)))
        elif not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
            raise BackendError(
                f"{self._path}: gives values from {x.min():.3g} to {x.max():.3g}; declare 'logits'"
            )
        x = x[1:] if len(x) == 2 else x
        if x.shape[1:] != self.input_size:  # some models answer at half the size
            height, width = self.input_size
            x = np.stack([cv2.resize(plane, (width, height)) for plane in x])
        return np.asarray(x, np.float32)


def _softmax(x: FloatArray) -> FloatArray:
    e = np.exp(x - x.max(axis=0))
    return np.asarray(e / e.sum(axis=0), np.float32)
