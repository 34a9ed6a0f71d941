"""From `--model`, `--variant` and `--backend` to the runners that a benchmark lets take turns."""

from __future__ import annotations

import importlib.util
import itertools
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rwkv_edge import __version__
from rwkv_edge.cache import cache_folder
from rwkv_edge.cli.loading import (
    export_to_cache,
    open_runner,
    parse_imgsz,
    require_onnx,
    require_torch,
)
from rwkv_edge.config import (
    DEFAULT_CONFIDENCE,
    DEFAULT_IMGSZ,
    DEFAULT_MAX_DICE_DROP,
    ENGINE_SUFFIXES,
    VARIANTS,
)
from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.files import atomic_path, file_sha256
from rwkv_edge.memory import resident_bytes
from rwkv_edge.metrics import PixelCounts
from rwkv_edge.preprocess import FloatArray, UInt8Array, to_mask
from rwkv_edge.runtime import Runner
from rwkv_edge.runtime.manifest import manifest_path, read_manifest
from rwkv_edge.weights import shipped_checkpoint, shipped_onnx

_TIME_THEM = "time them with --model FILE, or add --untrained for latency alone"
_MAX_MEAN_ERROR = 0.02
"""Mean difference in probability above which two runners of the same weights disagree."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Choice:
    """A model on a backend."""

    path: Path
    """ONNX file, engine or checkpoint."""
    label: str
    backend: str
    size: tuple[int, int] | None
    exported: Path | None = None
    """The ONNX file that ships with this checkpoint, in this size."""


@dataclass
class Opened:
    """A choice, loaded and run once."""

    label: str
    runner: Runner
    weights: str | None
    """Hash of the checkpoint behind the model; None: not known."""
    loaded_mib: float | None
    """Growth of this process's memory by loading and the first call; None: not known."""
    max_dice_drop: float = DEFAULT_MAX_DICE_DROP
    """What it may lose of Dice against another runner of the same weights."""


def untrained_checkpoint(variant: str) -> Path:
    """Return a checkpoint of fresh weights, written into the cache once: enough for latency.

    Raises:
        UsageError: no such variant.
        MissingDependencyError: Torch is not installed.
    """
    if variant not in VARIANTS:
        raise UsageError(f"--variant {variant}: choose one of {', '.join(VARIANTS)}")
    require_torch("making untrained weights")
    import torch

    from rwkv_edge.models.checkpoint import CheckpointInfo, save_checkpoint
    from rwkv_edge.models.create import create_model

    path = cache_folder() / f"{variant}-untrained-{__version__}.safetensors"
    if not path.is_file():
        torch.manual_seed(0)
        info = CheckpointInfo(variant, training="none: untrained, for benchmarks of latency only")
        save_checkpoint(path, create_model(variant).state_dict(), info)
    return path


def choose(
    models: Sequence[Path],
    variants: Sequence[str],
    backends: Sequence[str],
    imgsz: str | None,
    untrained: bool,
) -> list[Choice]:
    """Return every model on every backend that can run it.

    Raises:
        UsageError: no pair is possible, or an option is wrong.
    """
    size = parse_imgsz(imgsz) if imgsz else None
    named: list[tuple[Path, str, Path | None]] = [(path, path.stem, None) for path in models]
    for variant in variants:
        if untrained:
            named.append((untrained_checkpoint(variant), f"{variant} (untrained)", None))
        else:
            checkpoint = shipped_checkpoint(variant, _TIME_THEM)
            at_default = size in (None, (DEFAULT_IMGSZ,) * 2)
            at_hand = shipped_onnx(variant, _TIME_THEM) if at_default else None
            named.append((checkpoint, variant, at_hand))
    choices = []
    for (path, label, exported), backend in itertools.product(named, backends or ["auto"]):
        if not path.is_file():
            raise BackendError(f"{path}: no such file")
        if _can_run(path, backend):
            choices.append(Choice(path, label, backend, size, exported))
        else:
            print(f"left out: {path.name} on {backend}, which cannot run it", file=sys.stderr)
    if not choices:
        raise UsageError("none of the models runs on any of the backends: see --model, --backend")
    return choices


def _can_run(path: Path, backend: str) -> bool:
    if path.suffix in ENGINE_SUFFIXES:
        return backend == "auto" or backend.startswith("tensorrt")
    return not (path.suffix == ".onnx" and backend == "torch")


def open_choices(
    choices: Sequence[Choice], batch: int, threads: int | None, stack: ExitStack
) -> list[Opened]:
    """Load every choice and run it once; `stack` closes them.

    Raises:
        BackendError, UsageError, CheckpointError, MissingDependencyError: as their messages say.
    """
    opened: list[Opened] = []
    for choice in choices:
        path = _with_batch(_exported(choice), batch)
        before = resident_bytes()  # what the preparation takes is not the runner's
        runner = stack.enter_context(_open(path, choice, threads))
        runner(np.zeros((batch, *runner.info.input_size, 3), np.uint8))
        after = resident_bytes()
        height, width = runner.info.input_size
        label = f"{choice.label} {height}x{width}, {runner.backend.split(' on ')[0]}"
        taken = sum(other.label.split(" #")[0] == label for other in opened)
        opened.append(
            Opened(
                f"{label} #{taken + 1}" if taken else label,
                runner,
                weights_of(choice.path),
                None if before is None or after is None else (after - before) / _MIB,
                _allowed_drop(Path(runner.info.source)),
            )
        )
    return opened


def _exported(choice: Choice) -> Path:
    """Return what the backend loads: a checkpoint itself in Torch, else an ONNX file or engine."""
    if choice.path.suffix in (".onnx", *ENGINE_SUFFIXES) or choice.backend == "torch":
        return choice.path
    return choice.exported or export_to_cache(choice.path, None, choice.size)


def _with_batch(path: Path, batch: int) -> Path:
    """Return a copy of an ONNX file for another batch size, from the cache."""
    if path.suffix != ".onnx":
        return path
    if batch == 1 and importlib.util.find_spec("onnx") is None:
        return path
    require_onnx("another batch size")
    import onnx

    from rwkv_edge.export.graph import input_shape, read_onnx, set_batch

    model = read_onnx(path)
    if input_shape(model)[0] == batch:
        return path
    copy = cache_folder() / f"{path.stem}-{file_sha256(path)[:16]}-batch{batch}.onnx"
    if not copy.is_file():
        with atomic_path(copy) as temporary:
            onnx.save(set_batch(model, batch), temporary)
    return copy


def _open(path: Path, choice: Choice, threads: int | None) -> Runner:
    height_width = f"{choice.size[0]}x{choice.size[1]}" if choice.size else None
    if path.suffix == ".onnx" and choice.backend in ("auto", "onnxruntime") and threads:
        from rwkv_edge.runtime.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner(path, threads)
    if threads and choice.backend == "torch":
        import torch

        torch.set_num_threads(threads)
    elif threads:
        raise UsageError("--threads: only onnxruntime and torch take a number of threads")
    if path.suffix == ".safetensors":
        return open_runner(weights=path, backend=choice.backend, imgsz=height_width)
    return open_runner(model=path, backend=choice.backend, imgsz=height_width)


def weights_of(path: Path) -> str | None:
    """Return the hash of the checkpoint that a model was made from; None where it does not say."""
    if path.suffix in ENGINE_SUFFIXES:
        try:
            manifest = json.loads(manifest_path(path).read_text())
            return manifest["weights_sha256"] or None
        except (OSError, ValueError, KeyError, TypeError):
            return None
    if path.suffix != ".onnx":
        return file_sha256(path)
    if importlib.util.find_spec("onnx") is None:
        return None
    from rwkv_edge.export.graph import properties, read_onnx

    return properties(read_onnx(path)).get("weights_sha256") or None


def _allowed_drop(source: Path) -> float:
    """Return what an engine's gate allowed it when it was built, else what it allows at default."""
    if source.suffix in ENGINE_SUFFIXES:
        return read_manifest(source).max_dice_drop
    return DEFAULT_MAX_DICE_DROP


def check_outputs(opened: Sequence[Opened], images: Sequence[UInt8Array]) -> dict[str, str]:
    """Refuse to time what is wrong: values out of range, or another mask from the same weights.

    Args:
        opened: what is to be timed; the first with some weights and size is the reference.
        images: (h, w, 3) uint8 BGR frames.

    Returns:
        What was compared, by label.

    Raises:
        BackendError: a runner is wrong.
    """
    from rwkv_edge.preprocess import to_input
    from rwkv_edge.video.segmenting import is_probability

    references: dict[tuple[str, tuple[int, int]], tuple[Opened, list[FloatArray]]] = {}
    verdicts = {}
    for candidate in opened:
        runner = candidate.runner
        outputs = [runner(to_input(image, runner.info.input_size)[0])[0] for image in images]
        if not all(is_probability(output) for output in outputs):
            raise BackendError(
                f"{candidate.label}: its output is no probability (not finite, or outside 0..1); "
                "not timed"
            )
        if candidate.weights is None:
            verdicts[candidate.label] = "finite; its weights are not known, so nothing compares"
            continue
        key = (candidate.weights, runner.info.input_size)
        if key not in references:
            references[key] = (candidate, outputs)
            verdicts[candidate.label] = "finite"
            continue
        first, expected = references[key]
        allowed = max(first.max_dice_drop, candidate.max_dice_drop)
        words = _agree(candidate.label, outputs, expected, allowed)
        verdicts[candidate.label] = f"agrees with {first.label}: {words}"
    return verdicts


def _agree(
    label: str, outputs: Sequence[FloatArray], expected: Sequence[FloatArray], allowed: float
) -> str:
    dice, error = [], 0.0
    for ours, theirs in zip(outputs, expected, strict=True):
        masks = (to_mask(ours, DEFAULT_CONFIDENCE) > 0, to_mask(theirs, DEFAULT_CONFIDENCE) > 0)
        dice.append(PixelCounts.of(*masks).dice)
        error += float(np.abs(ours - theirs).mean()) / len(outputs)
    mean = float(np.mean(dice))
    words = f"Dice {mean:.4f}, mean difference in probability {error:.1e}"
    if mean < 1 - allowed or error > max(_MAX_MEAN_ERROR, allowed):
        raise BackendError(
            f"{label}: differs from the first runner of the same weights ({words}; a loss "
            f"of {allowed:g} is allowed); not timed"
        )
    return words
