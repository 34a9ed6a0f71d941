"""The state of a run between two epochs, in one safetensors file: no pickle, nothing executed.

The file is a checkpoint, too: who loads it as one gets the averaged weights of that epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from rwkv_edge.errors import CheckpointError
from rwkv_edge.files import atomic_path
from rwkv_edge.models.checkpoint import (
    AVERAGE_PREFIX,
    METADATA_KEY,
    RUN_STATE_KEY,
    CheckpointInfo,
)
from rwkv_edge.training.ema import WeightAverage


@dataclass
class RunState:
    """Everything that the next epoch depends on. Random numbers are seeded anew by epoch."""

    model: nn.Module
    average: WeightAverage
    optimizer: Optimizer
    info: CheckpointInfo
    epoch: int = 0
    """Epochs done."""
    best_dice: float = -1.0

    def save(self, path: Path) -> None:
        """Write the state, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for prefix, state in (
            ("model.", self.model.state_dict()),
            (AVERAGE_PREFIX, self.average.model.state_dict()),
            ("optimizer.", self._optimizer_tensors()),
        ):
            tensors |= {f"{prefix}{n}": t.detach().cpu().contiguous() for n, t in state.items()}
        numbers = {
            "epoch": self.epoch,
            "best_dice": self.best_dice,
            "updates": self.average.updates,
        }
        said = {**asdict(self.info), RUN_STATE_KEY: numbers}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata={METADATA_KEY: json.dumps(said)})

    def load(self, path: Path) -> None:
        """Continue from a file that `save` wrote.

        Raises:
            CheckpointError: missing, damaged, or of another model.
        """
        try:
            with safe_open(path, framework="pt") as file:
                numbers = json.loads((file.metadata() or {})[METADATA_KEY])[RUN_STATE_KEY]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self.model.load_state_dict(_select(tensors, "model."))
            self.average.model.load_state_dict(_select(tensors, AVERAGE_PREFIX))
            self._load_optimizer(_select(tensors, "optimizer."))
            self.epoch, self.best_dice = numbers["epoch"], numbers["best_dice"]
            self.average.updates = numbers["updates"]
        except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{path}: cannot be resumed ({error})") from error

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        state: Mapping[int, Mapping[str, Any]] = self.optimizer.state_dict()["state"]
        return {f"{i}.{key}": value for i, part in state.items() for key, value in part.items()}

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        content = self.optimizer.state_dict()
        parameters = dict(enumerate(p for g in self.optimizer.param_groups for p in g["params"]))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            index, key = name.split(".", 1)
            if tensor.ndim:  # a fused optimizer walks moments and weights in the memory's order
                like = torch.empty_like(parameters[int(index)], dtype=tensor.dtype)
                tensor = like.copy_(tensor)
            state.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**content, "state": state})


def _select(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
