"""The pictures of a run, as uint8, where the training step can reach them fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from rwkv_edge.data.arrays import array_bytes, load_arrays
from rwkv_edge.data.pairs import DataSet, Pair, find_pairs
from rwkv_edge.errors import DataError
from rwkv_edge.memory import available_bytes
from rwkv_edge.preprocess import UInt8Array
from rwkv_edge.training.distributed import Processes

RESIDENT_SHARE = 0.5
"""Of the free memory of the device or the host: what pictures may take of it to live there."""


def training_pairs(data: DataSet, extra: Sequence[Path]) -> tuple[list[Pair], list[Pair]]:
    """Return what to train on, and what chooses the best weights.

    Args:
        data: of the run; without a split to validate on, it is the training images that do it.
        extra: folders of further training pairs.

    Raises:
        DataError: there are none, or pictures are in both.
    """
    split, judge = data.first("train", "all"), data.first("val", "test", "all", "train")
    pairs, judges = list(data.splits[split]), data.splits[judge]
    for folder in extra:
        pairs += find_pairs(folder)
    if judge != split:
        seen = {pair.image.resolve() for pair in pairs}
        both = [pair.image for pair in judges if pair.image.resolve() in seen]
        if both:
            raise DataError(
                f"{data.path}: {len(both)} images of '{judge}' are also trained on, as {both[0]}: "
                "their Dice would say nothing; see rwkv-edge split --help"
            )
    return pairs, judges


def load_pictures(
    pairs: Sequence[Pair],
    num_classes: int,
    size: tuple[int, int],
    folder: Path,
    processes: Processes,
    device: torch.device,
    on_progress: Callable[[], None],
) -> Pictures:
    """Read pictures into memory if all processes of this machine can, else into a file.

    Args:
        pairs: what to read.
        num_classes: as in `read_pair`.
        size: height and width in pixels.
        folder: of the file, which all processes see; the first one writes it for all.
        processes: that read the same pictures.
        device: where batches are wanted.
        on_progress: called after each pair that is read.

    Raises:
        DataError: lists every pair that cannot be used.
        OutputError: they fit neither into memory nor on the disk.
    """
    needed, free = array_bytes(len(pairs), size), available_bytes()
    fits = free is None or needed * processes.local_count < RESIDENT_SHARE * free
    if processes.agree(fits):
        arrays = load_arrays(pairs, num_classes, size, on_progress)
    else:
        if processes.leads:
            print(f"{needed / 2**30:.1f} GB of pictures are streamed from {folder}", flush=True)
        with processes.first_alone():
            arrays = load_arrays(pairs, num_classes, size, on_progress, folder)
    return Pictures(*arrays, device)


class Pictures:
    """Images and masks, kept on the device if they fit, else where they are.

    Args:
        images: (N, H, W, 3) uint8 BGR.
        masks: (N, H, W) uint8 class labels.
        device: where batches are wanted.
    """

    def __init__(self, images: UInt8Array, masks: UInt8Array, device: torch.device) -> None:
        self.images, self.masks = torch.from_numpy(images), torch.from_numpy(masks)
        self.device = device
        if device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(device)
            resident = self.images.nbytes + self.masks.nbytes < RESIDENT_SHARE * free
            keep = device if resident else torch.device("cpu")
            self.images, self.masks = self.images.to(keep), self.masks.to(keep)

    def __len__(self) -> int:
        return len(self.images)

    def split(self, order: Tensor, size: int) -> list[Tensor]:
        """Cut an order of pictures into batches; it goes to where they are, once."""
        return list(order.to(self.images.device).split(size))

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return images and masks of a part of `split`, on the device."""
        images, masks = self.images[indices], self.masks[indices]
        if images.device.type == self.device.type:
            return images, masks
        return (
            images.pin_memory().to(self.device, non_blocking=True),
            masks.pin_memory().to(self.device, non_blocking=True),
        )
