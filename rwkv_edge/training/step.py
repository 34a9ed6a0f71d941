"""One training step: augment, forward, backward, clip, update, average; on the device throughout.

The host only queues work. On CUDA the whole step, random numbers included, can be captured as one
CUDA graph, after which queueing it is a single call.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from rwkv_edge.errors import RwkvEdgeError
from rwkv_edge.models import Segmenter
from rwkv_edge.training.augment import SHARES, augment
from rwkv_edge.training.distributed import Processes
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.losses import dice_bce_loss, to_planes
from rwkv_edge.training.settings import TrainSettings
from rwkv_edge.training.teacher import Teacher, teach

WARM_UP = 3
"""Plain steps of a shape before its capture: they pick algorithms, compile and load kernels."""


def make_optimizer(model: nn.Module, settings: TrainSettings, device: torch.device) -> AdamW:
    """AdamW in one kernel, its learning rate a tensor that `TrainingStep` fills."""
    return AdamW(
        _parameter_groups(model, settings.weight_decay),
        lr=torch.tensor(settings.lr, device=device),
        fused=True,
        capturable=device.type == "cuda",
    )


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Decay matrices and kernels; leave biases, norms, decays and mixing ratios alone."""
    decayed: list[Tensor] = []
    free: list[Tensor] = []
    for name, parameter in model.named_parameters():
        is_kernel = parameter.ndim >= 2 and "spatial_" not in name
        (decayed if is_kernel else free).append(parameter)
    return [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


@dataclass
class _Capture:
    """A step of one shape as a graph, and the memory that it reads and writes."""

    graph: torch.cuda.CUDAGraph
    images: Tensor
    masks: Tensor
    loss: Tensor


class TrainingStep:
    """Updates a network from batches of stored pictures.

    Args:
        model: on its device.
        average: of that model.
        optimizer: from `make_optimizer`.
        settings: of the run.
        device: where all of them are.
        processes: that train this network together; each calls the step with its own share.
        teachers: to learn from beside the labels.
    """

    def __init__(
        self,
        model: nn.Module,
        average: WeightAverage,
        optimizer: Optimizer,
        settings: TrainSettings,
        device: torch.device,
        processes: Processes = Processes(),
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.model, self.average, self.optimizer = model, average, optimizer
        self.settings, self.device, self.processes = settings, device, processes
        self.teachers = teachers
        self.network = processes.wrap(model, device)
        self.segmenter = Segmenter(model).to(device)
        self.shares = {name: SHARES[name] * (name not in settings.without) for name in SHARES}
        self._seen: Counter[tuple[int, int]] = Counter()
        self._captures: dict[tuple[int, int], _Capture] = {}

    def __call__(self, images: Tensor, masks: Tensor, size: int, lr: float) -> Tensor:
        """Queue one update.

        Args:
            images: (B, H, W, 3) uint8 BGR, on the device; B is a multiple of `accumulate`.
            masks: (B, H, W) uint8 class labels.
            size: side of the pictures to train on, in pixels.
            lr: learning rate.

        Returns:
            The loss, a scalar on the device that the next step may overwrite.

        Raises:
            RwkvEdgeError: the step cannot be captured.
        """
        for group in self.optimizer.param_groups:
            group["lr"].fill_(lr)
        self.average.next_rate()
        if not (self.settings.cuda_graph and self.device.type == "cuda"):
            return self._update(images, masks, size)
        shape = (len(images), size)
        if shape not in self._captures:
            self._seen[shape] += 1
            if self._seen[shape] <= WARM_UP:
                return self._update_beside(images, masks, size)
            self._captures[shape] = self._capture(images, masks, size)
        capture = self._captures[shape]
        capture.images.copy_(images)
        capture.masks.copy_(masks)
        capture.graph.replay()
        return capture.loss

    def logits(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """(B, H, W, 3) uint8 BGR to (B, classes, H, W), in bfloat16 where the run says so."""
        x = self.segmenter.normalise(pixels).contiguous(memory_format=torch.channels_last)
        amp = self.settings.amp
        # no cache: each weight is cast once a step, and a captured cast must not outlive its graph
        with torch.autocast(self.device.type, torch.bfloat16, enabled=amp, cache_enabled=False):
            logits: Tensor = model(x)
        return logits

    def _update(self, images: Tensor, masks: Tensor, size: int) -> Tensor:
        pixels, target = augment(images, masks, size, self.shares)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        count = self.settings.accumulate
        parts = zip(pixels.chunk(count), target.chunk(count), strict=True)
        for part, (part_pixels, part_target) in enumerate(parts, 1):
            last = part == count
            with nullcontext() if last else self.processes.accumulating(self.network):
                logits = self.logits(self.network, part_pixels)
                wanted = to_planes(part_target, logits.shape[1])
                if self.teachers:
                    wanted = teach(self.teachers, part_pixels, wanted, self.settings.teacher_share)
                loss = dice_bce_loss(logits, wanted) / count
                loss.backward()
            total += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self.average.update()
        return total

    def _update_beside(self, images: Tensor, masks: Tensor, size: int) -> Tensor:
        """On a stream of its own, as the capture will be."""
        here, side = torch.cuda.current_stream(), torch.cuda.Stream()
        side.wait_stream(here)
        with torch.cuda.stream(side):
            loss = self._update(images, masks, size)
        here.wait_stream(side)
        return loss

    def _capture(self, images: Tensor, masks: Tensor, size: int) -> _Capture:
        graph, inputs = torch.cuda.CUDAGraph(), (images.clone(), masks.clone())
        try:
            with torch.cuda.graph(graph):
                loss = self._update(*inputs, size)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise RwkvEdgeError(
                f"the training step cannot be captured as a CUDA graph ({reason}); "
                "train without --cuda-graph"
            ) from error
        return _Capture(graph, *inputs, loss)
