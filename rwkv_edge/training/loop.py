"""`train`: what a run needs, checked and made ready, then the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from rwkv_edge.config import SIZES, RWKVUNetSize
from rwkv_edge.data.pairs import DataSet, load_dataset
from rwkv_edge.errors import CheckpointError, UsageError
from rwkv_edge.memory import keep_freed_memory
from rwkv_edge.ops import extension
from rwkv_edge.preprocess import check_input_size
from rwkv_edge.training.distributed import Processes
from rwkv_edge.training.progress import Progress
from rwkv_edge.training.run import Run
from rwkv_edge.training.settings import TrainSettings
from rwkv_edge.training.teacher import Teacher, check_teachers


def train(
    settings: TrainSettings,
    folder: Path,
    *,
    resume: bool = False,
    processes: Processes = Processes(),
    teachers: Sequence[Teacher] = (),
) -> Path:
    """Train a network and keep the run in `folder`.

    Written there after every epoch: `weights/best.safetensors` (the averaged weights of the best
    validation Dice, and in float16 `best-fp16.safetensors`), `weights/last.safetensors` (the run's
    state, to resume from: on a CPU to the bit, where epochs are counted and not minutes),
    `results.csv`, `curves.png`; at the start `args.yaml` and `training.png` (augmented pictures),
    at the end `validation.png`.

    Args:
        settings: what to train on what, and how.
        folder: of the run.
        resume: continue from `weights/last.safetensors`.
        processes: that train together; all call this, and the first one prints and writes.
        teachers: what `settings.teachers` names, opened.

    Returns:
        The path of the best weights.

    Raises:
        DataError, UsageError, CheckpointError, OutputError: as their messages say.
    """
    check_input_size(settings.imgsz, settings.imgsz)
    processes.check(settings)
    data = load_dataset(settings.data)
    if settings.init and not settings.init.is_file():
        raise CheckpointError(f"{settings.init}: no such file")
    if settings.cuda_graph and teachers:
        raise UsageError("--cuda-graph cannot hold a teacher, which runs on the host; leave it out")
    check_teachers(settings.teachers, teachers, data.num_classes)
    device = processes.pick_device(settings.device)
    if settings.cuda_graph and device.type != "cuda":
        raise UsageError("--cuda-graph needs a CUDA GPU; leave it out")
    if device.type == "cpu":
        keep_freed_memory()
    elif device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # shapes repeat
    if processes.leads:
        _announce_kernels(settings, device)
        _warn_of_validation(data)
    with processes.together(device), Progress(shown=processes.leads) as progress:
        run = Run(settings, data, folder, device, progress, processes, teachers)
        if resume:
            run.resume()
        run.fit()
    return run.best_path


def _announce_kernels(settings: TrainSettings, device: torch.device) -> None:
    """Print what runs bi-WKV, where the network has it, before anything long starts."""
    if not isinstance(SIZES.get(settings.variant), RWKVUNetSize):
        return
    print(f"bi-WKV: {extension.describe(device)}", flush=True)
    if settings.cuda_graph and (reason := extension.why_not()):
        raise UsageError(f"--cuda-graph needs the fused bi-WKV kernels: {reason}")


def _warn_of_validation(data: DataSet) -> None:
    """Say where the Dice that chooses the best weights says nothing about other images."""
    if data.splits.get("val"):
        return
    what = (
        "the test images choose the best weights"
        if data.splits.get("test")
        else ("validated on the training images themselves")
    )
    print(
        f"warning: {data.path} has no 'val' split: {what}; see rwkv-edge split --help",
        file=sys.stderr,
        flush=True,
    )
