"""The training loop."""

from __future__ import annotations

import csv
import math
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from rwkv_edge.data.arrays import load_arrays
from rwkv_edge.data.pairs import DataSet, Pair, find_pairs, load_dataset
from rwkv_edge.errors import RwkvEdgeError, UsageError
from rwkv_edge.files import atomic_path, make_folder
from rwkv_edge.models import CheckpointInfo, Segmenter, create_model, load_checkpoint
from rwkv_edge.models.checkpoint import save_checkpoint
from rwkv_edge.preprocess import UInt8Array, check_input_size
from rwkv_edge.training.augment import BatchAugmenter
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.figures import draw_curves, draw_validation_grid
from rwkv_edge.training.losses import dice_bce_loss, image_dice
from rwkv_edge.training.memory import keep_freed_memory
from rwkv_edge.training.progress import Progress
from rwkv_edge.training.settings import TrainSettings
from rwkv_edge.training.state import RunState

COLUMNS = ("epoch", "imgsz", "lr", "train_loss", "val_loss", "val_dice", "seconds")
VALIDATION_BATCH = 16


def train(settings: TrainSettings, folder: Path, *, resume: bool = False) -> Path:
    """Train a network and keep the run in `folder`.

    Written there after every epoch: `weights/best.safetensors` (the averaged weights of the best
    validation Dice), `weights/last.safetensors` (the run's state, to resume from, to the bit),
    `results.csv`, `curves.png`; `args.yaml` at the start and `validation.png` at the end.

    Args:
        settings: what to train on what, and how.
        folder: of the run.
        resume: continue from `weights/last.safetensors`.

    Returns:
        The path of the best weights.

    Raises:
        DataError, UsageError, CheckpointError, OutputError: as their messages say.
    """
    check_input_size(settings.imgsz, settings.imgsz)
    data = load_dataset(settings.data)
    make_folder(folder / "weights")
    device = pick_device(settings.device)
    if device.type == "cpu":
        keep_freed_memory()
    with Progress() as progress:
        run = _Run(settings, data, folder, device, progress)
        if resume:
            run.resume()
        run.fit()
    return run.best_path


def pick_device(name: str) -> torch.device:
    """Return the device that a `--device` names; 'auto' prefers CUDA.

    Raises:
        UsageError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"device '{name}' is not available here; try --device cpu") from error
    return device


class _Run:
    """A run in progress."""

    def __init__(
        self,
        settings: TrainSettings,
        data: DataSet,
        folder: Path,
        device: torch.device,
        progress: Progress,
    ) -> None:
        self.settings, self.folder, self.device, self.progress = settings, folder, device, progress
        self.info = CheckpointInfo(
            settings.variant,
            data.num_classes,
            data.names,
            (settings.imgsz, settings.imgsz),
            f"trained on {settings.data.name}",
        )
        pairs = list(data.pairs("train", "all"))
        for extra in settings.extra:
            pairs += find_pairs(extra)
        self.images, self.masks = self._load(pairs, "reading training images")
        self.val_images, self.val_masks = self._load(data.pairs("val", "test", "all"), "validation")

        torch.manual_seed(settings.seed)
        model = create_model(settings.variant, data.num_classes)
        if settings.init:
            load_checkpoint(model, settings.init)
        self.model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer = torch.optim.AdamW(_parameter_groups(self.model, settings.weight_decay))
        average = WeightAverage(self.model, settings.ema_decay)
        self.state = RunState(self.model, average, optimizer)
        self.segmenter = Segmenter(self.model).to(device)
        self.augment = BatchAugmenter()

    @property
    def best_path(self) -> Path:
        return self.folder / "weights" / "best.safetensors"

    @property
    def last_path(self) -> Path:
        return self.folder / "weights" / "last.safetensors"

    def resume(self) -> None:
        self.state.load(self.last_path)

    def fit(self) -> None:
        if self.state.epoch == 0:
            self.settings.save(self.folder / "args.yaml")
        rows = self._read_results()
        while self.state.epoch < self.settings.epochs:
            started = time.monotonic()
            epoch = self.state.epoch
            size = self.settings.image_size(epoch)
            train_loss = self._train_epoch(epoch, size)
            val_loss, val_dice = self._validate(size)
            if not math.isfinite(train_loss):
                raise RwkvEdgeError(
                    f"the loss is not finite in epoch {epoch + 1}; resume with a smaller --lr"
                )
            self.state.epoch = epoch + 1
            # sizes differ in difficulty: the best of an early, smaller size must not stay
            grown = size != self.settings.image_size(epoch - 1) if epoch else False
            if grown or val_dice > self.state.best_dice:
                self.state.best_dice = val_dice
                save_checkpoint(self.best_path, self.state.average.model.state_dict(), self.info)
            rows.append(
                {
                    "epoch": epoch + 1,
                    "imgsz": size,
                    "lr": self.settings.learning_rate(epoch + 1),
                    "train_loss": train_loss,
                    "val_loss": val_loss,
                    "val_dice": val_dice,
                    "seconds": time.monotonic() - started,
                }
            )
            self._write_results(rows)
            self.state.save(self.last_path)
            self.progress.epoch_done(
                epoch + 1, self.settings.epochs, rows[-1], self.state.best_dice
            )
        self._draw_validation()

    def _train_epoch(self, epoch: int, size: int) -> float:
        """Seeded by the epoch alone, so that a resumed run repeats an uninterrupted one."""
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        self.model.train()
        order = torch.randperm(len(self.images))
        batches = order.split(settings.batch)
        if len(batches) > 1 and len(batches[-1]) == 1:
            batches = batches[:-1]  # BatchNorm needs two
        total = 0.0
        for index, batch in enumerate(batches):
            lr = settings.learning_rate(epoch + index / len(batches))
            for group in self.state.optimizer.param_groups:
                group["lr"] = lr
            loss = self._step(self.images[batch], self.masks[batch], size)
            total += loss
            self.progress.step(epoch, settings.epochs, index + 1, len(batches), loss)
        return total / len(batches)

    def _step(self, images: Tensor, masks: Tensor, size: int) -> float:
        pixels, target = self.augment(images.to(self.device), masks.to(self.device), size)
        loss = dice_bce_loss(self._logits(self.model, pixels), target)
        self.state.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.state.optimizer.step()
        self.state.average.update(self.model)
        return float(loss.detach())

    def _logits(self, model: nn.Module, pixels: Tensor) -> Tensor:
        x = self.segmenter.normalise(pixels).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.amp):
            logits: Tensor = model(x)
        return logits

    @torch.no_grad()
    def _validate(self, size: int) -> tuple[float, float]:
        losses, dices = [], []
        for pixels, target in self._validation_batches(size):
            logits = self._logits(self.state.average.model, pixels)
            losses.append(float(dice_bce_loss(logits, target)) * len(target))
            dices.append(image_dice(logits, target).cpu())
        dice = torch.cat(dices)
        return sum(losses) / len(dice), float(dice.mean())

    def _validation_batches(self, size: int) -> list[tuple[Tensor, Tensor]]:
        batches = []
        for images, masks in zip(
            self.val_images.split(VALIDATION_BATCH),
            self.val_masks.split(VALIDATION_BATCH),
            strict=True,
        ):
            planes, labels = images.permute(0, 3, 1, 2).float(), masks[:, None].float()
            if planes.shape[2] != size:
                planes = nn.functional.interpolate(planes, (size, size), mode="area")
                labels = nn.functional.interpolate(labels, (size, size), mode="nearest-exact")
            pixels = planes.round().to(torch.uint8).permute(0, 2, 3, 1)
            batches.append((pixels.to(self.device), labels[:, 0].long().to(self.device)))
        return batches

    def _load(self, pairs: list[Pair], title: str) -> tuple[Tensor, Tensor]:
        size = (self.settings.imgsz, self.settings.imgsz)
        with self.progress.reading(title, len(pairs)) as advance:
            images, masks = load_arrays(pairs, self.info.num_classes, size, advance)
        return torch.from_numpy(images), torch.from_numpy(masks)

    def _read_results(self) -> list[dict[str, float]]:
        path = self.folder / "results.csv"
        if self.state.epoch == 0 or not path.is_file():
            return []
        with path.open(newline="") as file:
            rows = [
                {key: float(value) for key, value in row.items()} for row in csv.DictReader(file)
            ]
        return rows[: self.state.epoch]

    def _write_results(self, rows: list[dict[str, float]]) -> None:
        with (
            atomic_path(self.folder / "results.csv") as temporary,
            temporary.open("w", newline="") as file,
        ):
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows({k: _rounded(v) for k, v in row.items()} for row in rows)
        draw_curves(self.folder / "curves.png", rows)

    @torch.no_grad()
    def _draw_validation(self) -> None:
        best = create_model(self.settings.variant, self.info.num_classes)
        load_checkpoint(best, self.best_path)
        segmenter = Segmenter(best).eval().to(self.device)

        def predict(image: UInt8Array) -> Tensor:
            probability: Tensor = segmenter(torch.from_numpy(image)[None].to(self.device))
            return probability[0].cpu()

        draw_validation_grid(
            self.folder / "validation.png", self.val_images.numpy(), self.val_masks.numpy(), predict
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


def _rounded(value: float) -> float | int:
    return value if isinstance(value, int) or value.is_integer() else float(f"{value:.6g}")
