"""What a training run is told, and the two schedules that follow from it."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from rwkv_edge.config import DEFAULT_IMGSZ, DEFAULT_TEACHER_SHARE, DEFAULT_VARIANT, SIZE_MULTIPLE
from rwkv_edge.errors import CheckpointError
from rwkv_edge.files import write_text

PROGRESSIVE_STEPS = ((0.5, 0.5), (0.85, 0.75))
"""Until this share of the run, train at this share of the image size."""


@dataclass(frozen=True)
class TrainSettings:
    """One training run; everything that its result depends on but the code."""

    data: Path
    variant: str = DEFAULT_VARIANT
    extra: tuple[Path, ...] = ()
    """Folders of further training pairs, procedural ones for instance."""
    without: tuple[str, ...] = ()
    """Ingredients of the augmentation to leave out, names of `augment.SHARES`."""
    epochs: int = 100
    minutes: float | None = None
    """Train this long instead; the schedules then follow the clock."""
    repeat: int = 1
    """Passes over the training images in an epoch, after which the run is validated and saved."""
    imgsz: int = DEFAULT_IMGSZ
    progressive: bool = False
    """Start at half the image size and grow: three times the epochs in the same time."""
    batch: int = 8
    """Images in an update, over all processes."""
    accumulate: int = 1
    """Parts that a process computes a batch in, one after the other, to need less memory."""
    lr: float = 1e-3
    final_lr_share: float = 0.01
    weight_decay: float = 0.05
    warmup_share: float = 0.02
    ema_decay: float = 0.998
    clip_norm: float = 3.0
    device: str = "auto"
    amp: bool = False
    """bfloat16 autocast."""
    compile: bool = False
    """Let torch.compile fuse the network."""
    cuda_graph: bool = False
    """Capture the training step as a CUDA graph."""
    seed: int = 0
    init: Path | None = None
    """Weights to start from: a checkpoint of ours, or upstream's (an ImageNet encoder too)."""
    teachers: tuple[str, ...] = ()
    """What to learn from beside the labels: variants that ship, or files."""
    teacher_preprocess: str | None = None
    """What they take and give, in words, if they are ONNX files of another project."""
    teacher_share: float = DEFAULT_TEACHER_SHARE
    """Of the target; the labels keep the rest."""
    name: str = "exp"

    def learning_rate(self, share: float) -> float:
        """Return the learning rate once this share of the run is done: warm-up, then cosine."""
        if share < self.warmup_share:
            return self.lr * (0.01 + 0.99 * share / self.warmup_share)
        progress = (share - self.warmup_share) / max(1e-9, 1 - self.warmup_share)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * (self.final_lr_share + (1 - self.final_lr_share) * cosine)

    def image_size(self, share: float) -> int:
        """Return the side of the training images, in pixels, once this share of the run is done."""
        if self.progressive:
            for until, part in PROGRESSIVE_STEPS:
                if share < until:
                    return max(2, round(self.imgsz * part / SIZE_MULTIPLE)) * SIZE_MULTIPLE
        return self.imgsz

    def save(self, path: Path) -> None:
        """Write the settings as YAML, whole or not at all."""
        values = {name: _plain(value) for name, value in asdict(self).items()}
        write_text(path, yaml.safe_dump(values, sort_keys=False))

    @classmethod
    def load(cls, path: Path) -> TrainSettings:
        """Read what `save` wrote.

        Raises:
            CheckpointError: missing, or not such a file.
        """
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
            values["data"] = Path(values["data"])
            values["extra"] = tuple(Path(folder) for folder in values["extra"])
            values["without"] = tuple(values.get("without", ()))
            values["teachers"] = tuple(values.get("teachers", ()))
            values["init"] = Path(values["init"]) if values["init"] else None
            return cls(**values)
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise CheckpointError(f"{path}: holds no settings of a run ({error})") from error


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
