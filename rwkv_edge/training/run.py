"""A training run: epochs of steps, each validated, saved and drawn."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from rwkv_edge.data.pairs import DataSet, Pair
from rwkv_edge.errors import DataError, RwkvEdgeError
from rwkv_edge.files import make_folder
from rwkv_edge.memory import peak_bytes
from rwkv_edge.models import CheckpointInfo, Segmenter, create_model, load_checkpoint
from rwkv_edge.models.checkpoint import save_checkpoint
from rwkv_edge.models.warm_start import start_from
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.training.augment import augment, resize, to_pixels
from rwkv_edge.training.depthwise import quicken_depthwise
from rwkv_edge.training.distributed import Processes
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.figures import GRID_IMAGES, draw_training_grid, draw_validation_grid
from rwkv_edge.training.losses import dice_bce_loss, image_dice, to_planes
from rwkv_edge.training.pictures import Pictures, load_pictures, training_pairs
from rwkv_edge.training.progress import Progress
from rwkv_edge.training.results import Results
from rwkv_edge.training.settings import TrainSettings
from rwkv_edge.training.state import RunState
from rwkv_edge.training.step import TrainingStep, make_optimizer
from rwkv_edge.training.teacher import Teacher

VALIDATION_BATCH = 16
REPORT_EVERY = 16
"""Steps on a GPU between two looks at the loss: each look waits for all that is queued."""


class Run:
    """A run in progress.

    Args:
        settings: what to train, and how.
        data: the set.
        folder: of the run; see `loop.train` for what comes there.
        device: where to train.
        progress: bars and lines.
        processes: that train together.
        teachers: to learn from beside the labels.

    Raises:
        DataError, CheckpointError, OutputError: as their messages say.
    """

    def __init__(
        self,
        settings: TrainSettings,
        data: DataSet,
        folder: Path,
        device: torch.device,
        progress: Progress,
        processes: Processes,
        teachers: Sequence[Teacher] = (),
    ) -> None:
        self.settings, self.folder, self.device, self.progress = settings, folder, device, progress
        self.processes = processes
        self.info = CheckpointInfo(
            settings.variant,
            data.num_classes,
            data.names,
            (settings.imgsz, settings.imgsz),
            f"trained on {settings.data.name}",
        )
        pairs, judges = training_pairs(data, settings.extra)
        parts = processes.count * settings.accumulate
        if len(pairs) < parts:
            raise DataError(f"{len(pairs)} training images are too few for {parts} at a time")
        torch.manual_seed(settings.seed)
        model = create_model(settings.variant, data.num_classes)
        if settings.init:
            done = start_from(model, settings.variant, settings.init)
            if done and processes.leads:
                print(f"starting from {done}", flush=True)
        make_folder(folder / "weights")
        self.pictures = self._load(pairs, "reading training images")
        self.validation = self._load(judges, "validation")

        model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = WeightAverage(model, settings.ema_decay)
        optimizer = make_optimizer(model, settings, device)
        if settings.compile:
            if device.type == "cpu":
                quicken_depthwise(model)
            model.compile(dynamic=False)
        self.state = RunState(model, average, optimizer, self.info)
        self.step = TrainingStep(model, average, optimizer, settings, device, processes, teachers)
        self.started = time.monotonic()

    @property
    def best_path(self) -> Path:
        """The averaged weights of the best validation Dice."""
        return self.folder / "weights" / "best.safetensors"

    @property
    def _last_path(self) -> Path:
        return self.folder / "weights" / "last.safetensors"

    @property
    def _streamed(self) -> Path:
        """Where pictures are while the run goes that do not fit into memory."""
        return self.folder / "pictures"

    def resume(self) -> None:
        """Continue where `weights/last.safetensors` was saved."""
        self.state.load(self._last_path)

    def fit(self) -> None:
        """Train to the end, saving every epoch."""
        if self.state.epoch == 0 and self.processes.leads:
            self.settings.save(self.folder / "args.yaml")
            self._draw_training()
        results = Results(self.folder, self.state.epoch)
        self.started = time.monotonic() - sum(row["seconds"] for row in results.rows)
        while self._share(self.state.epoch) < 1:
            epoch, begun = self.state.epoch, self._seconds()
            size = self.settings.image_size(self._share(epoch))
            train_loss, speed = self._train_epoch(epoch, size)
            val_loss, val_dice = self._validate(size)
            if not math.isfinite(train_loss):
                raise RwkvEdgeError(
                    f"the loss is not finite in epoch {epoch + 1}; start again with a smaller --lr"
                )
            # sizes differ in difficulty: the best of an early, smaller size must not stay
            grown = bool(results.rows) and size != results.rows[-1]["imgsz"]
            if grown or val_dice > self.state.best_dice:
                self.state.best_dice = val_dice
                if self.processes.leads:
                    self._save_best()
            self.state.epoch = epoch + 1
            results.add(
                {
                    "epoch": epoch + 1,
                    "imgsz": size,
                    "lr": self.settings.learning_rate(self._share(epoch + 1)),
                    "train_loss": train_loss,
                    "val_loss": val_loss,
                    "val_dice": val_dice,
                    "seconds": self._seconds() - begun,
                    "images_per_second": speed,
                    **self._peak_memory(),
                }
            )
            if self.processes.leads:
                results.write()
                self.state.save(self._last_path)
                self.progress.epoch_done(self._name(epoch), results.rows[-1], self.state.best_dice)
        if self.processes.leads:
            self._draw_validation()
            shutil.rmtree(self._streamed, ignore_errors=True)

    def _seconds(self) -> float:
        return time.monotonic() - self.started

    def _share(self, epoch: float) -> float:
        """How much of the run is done: of the minutes, if they are counted, else of the epochs."""
        if self.settings.minutes is not None:
            return min(1.0, self.processes.agree(self._seconds()) / (60 * self.settings.minutes))
        return epoch / self.settings.epochs

    def _name(self, epoch: int) -> str:
        if self.settings.minutes is not None:
            done = self._seconds() / 60
            return f"{epoch + 1} ({done:.1f} of {self.settings.minutes:g} min)"
        return f"{epoch + 1}/{self.settings.epochs}"

    def _train_epoch(self, epoch: int, size: int) -> tuple[float, float]:
        """Seeded by the epoch alone, so that a resumed run repeats an uninterrupted one.

        Returns:
            The mean loss, and the images that all processes trained on in a second.
        """
        settings, processes, begun = self.settings, self.processes, time.perf_counter()
        torch.manual_seed(settings.seed * 1_000_003 + epoch)
        self.state.model.train()
        order = torch.cat([torch.randperm(len(self.pictures)) for _ in range(settings.repeat)])
        processes.diverge()
        *batches, last = self.pictures.split(order, settings.batch)
        parts = processes.count * settings.accumulate
        last = last[: len(last) // parts * parts]
        if len(last) > 1 or not batches:  # BatchNorm needs two
            batches.append(last)
        report_every = REPORT_EVERY if self.device.type == "cuda" else 1
        total, steps, images = torch.zeros((), device=self.device), 0, 0
        for batch in batches:
            share = self._share(epoch + steps / len(batches))
            if steps and share >= 1:  # the time is up
                break
            mine = self.pictures.batch(processes.share(batch))
            loss = self.step(*mine, size, settings.learning_rate(share))
            total += loss
            steps += 1
            images += len(batch)
            if steps % report_every == 0:
                self.progress.step(share, self._name(epoch), float(loss))
        mean = float(processes.sum(total)) / steps / processes.count
        return mean, images / (time.perf_counter() - begun)

    @torch.no_grad()
    def _validate(self, size: int) -> tuple[float, float]:
        """Every process looks at its share of the batches, and all learn the whole result."""
        pictures, processes = self.validation, self.processes
        parts = pictures.split(torch.arange(len(pictures)), VALIDATION_BATCH)
        losses = torch.zeros(len(parts), device=self.device)
        dices = torch.zeros(len(parts), VALIDATION_BATCH, device=self.device)
        for index in range(processes.rank, len(parts), processes.count):
            pixels, target = to_pixels(*resize(*pictures.batch(parts[index]), size))
            logits = self.step.logits(self.state.average.model, pixels)
            wanted = to_planes(target, logits.shape[1])
            losses[index] = dice_bce_loss(logits, wanted) * len(target)
            dices[index, : len(target)] = image_dice(logits, target)
        dice = processes.sum(dices).flatten()[: len(pictures)]
        return float(sum(processes.sum(losses))) / len(dice), float(dice.mean())

    def _peak_memory(self) -> dict[str, float]:
        """Of the largest process since the start, in MiB."""
        on_gpu = self.device.type == "cuda"
        peaks = {
            "peak_mb": peak_bytes() or 0,
            "peak_gpu_mb": torch.cuda.max_memory_reserved(self.device) if on_gpu else 0,
        }
        return {name: self.processes.largest(peak) / 2**20 for name, peak in peaks.items()}

    def _load(self, pairs: list[Pair], title: str) -> Pictures:
        size = (self.settings.imgsz, self.settings.imgsz)
        classes, streamed, device = self.info.num_classes, self._streamed, self.device
        with self.progress.reading(title, len(pairs)) as advance:
            return load_pictures(pairs, classes, size, streamed, self.processes, device, advance)

    def _save_best(self) -> None:
        weights = self.state.average.model.state_dict()
        save_checkpoint(self.best_path, weights, self.info)
        half_path = self.best_path.with_name("best-fp16.safetensors")
        save_checkpoint(half_path, weights, self.info, half=True)

    def _draw_training(self) -> None:
        chosen = torch.linspace(0, len(self.pictures) - 1, min(GRID_IMAGES, len(self.pictures)))
        images, masks = (x.cpu() for x in self.pictures.batch(chosen.long()))
        with torch.random.fork_rng(devices=[]):
            pixels, labels = augment(images, masks, self.settings.imgsz, self.step.shares)
        draw_training_grid(
            self.folder / "training.png", pixels.numpy(), labels.to(torch.uint8).numpy()
        )

    @torch.no_grad()
    def _draw_validation(self) -> None:
        best = create_model(self.settings.variant, self.info.num_classes)
        load_checkpoint(best, self.best_path)
        segmenter = Segmenter(best).eval().to(self.device)

        def predict(image: UInt8Array) -> torch.Tensor:
            probability: torch.Tensor = segmenter(torch.from_numpy(image)[None].to(self.device))
            return probability[0].cpu()

        images, masks = (x.cpu().numpy() for x in (self.validation.images, self.validation.masks))
        draw_validation_grid(self.folder / "validation.png", images, masks, predict)
