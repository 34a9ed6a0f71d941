"""The sizes and defaults of the project, as frozen dataclasses. Every number has one home: here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

RESEARCH_USE = "research use only, not for diagnosis"

DEFAULT_VARIANT = "tiny"
DEFAULT_IMGSZ = 256
"""Side of the square network input, in pixels."""

SIZE_MULTIPLE = 16
"""Height and width of the network input are multiples of this: the encoder halves four times."""

MAX_BATCH = 4096
"""Pictures in one call, or in a step of training: far more than any memory here holds."""

MASK_THRESHOLD = 127
"""A grey mask pixel above this value belongs to the lesion (8-bit masks, JPEG noise included)."""

DEFAULT_CONFIDENCE = 0.5
"""A pixel whose probability reaches this value belongs to the predicted mask."""

DEFAULT_TEACHER_SHARE = 0.5
"""Of what a network learns from; the labels keep the rest."""

ENGINE_SUFFIXES = (".engine", ".plan")
"""What an engine's file is called; without a name given, `build` takes the first."""

DEFAULT_MAX_DICE_DROP = 0.005
"""What an engine of lower precision may lose of Dice against float32."""


class Outside(str, Enum):
    """What becomes of the picture outside the field of view, where the patient's name may stand."""

    SHOW = "show"
    BLUR = "blur"
    BLACK = "black"
    CROP = "crop"
    """Cut to the box around the field of view, and black in its corners."""


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each channel of an RGB image in 0..1 (ImageNet's)."""

    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


NORMALISATION = Normalisation()


@dataclass(frozen=True)
class RWKVUNetSize:
    """One column of the paper's table of sizes (arXiv 2501.08458, RWKV-UNet-T, -S and -B).

    `depths`, `widths` and `expansions` hold one entry for each of the four encoder stages.
    """

    depths: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    expansions: tuple[float, float, float, float]
    stem_width: int = 24
    attention_stages: tuple[int, ...] = (3, 4)
    kernel_size: int = 5
    decoder_kernel_size: int = 9
    decoder_out_width: int = 24
    drop_path: float = 0.05


@dataclass(frozen=True)
class UNetSize:
    """The plain U-Net that papers compare with; 7.76 M parameters at base width 32."""

    base_width: int = 32


SIZES: dict[str, RWKVUNetSize | UNetSize] = {
    "tiny": RWKVUNetSize((2, 2, 4, 2), (32, 48, 96, 160), (2.0, 2.5, 3.0, 3.5)),
    "small": RWKVUNetSize((3, 3, 6, 3), (32, 64, 128, 192), (2.0, 2.5, 3.0, 4.0)),
    "base": RWKVUNetSize((3, 3, 6, 3), (48, 72, 144, 240), (2.0, 2.5, 4.0, 4.0)),
    "unet": UNetSize(),
}
VARIANTS = tuple(SIZES)
