"""`rwkv-edge train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.files import check_run_name


def train(
    data: Annotated[
        Path | None,
        typer.Option(help="A folder with images/ and masks/, of splits, or of volumes; or a YAML."),
    ] = None,
    variant: Annotated[str, typer.Option(help="tiny, small, base or unet.")] = "tiny",
    extra: Annotated[
        list[Path] | None,
        typer.Option(help="A further folder of training pairs, as synth writes; repeatable."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training images. Default: 100.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Train this long instead of counting epochs.")
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(min=1, help="Passes in an epoch, for a GPU that does one in a second."),
    ] = 1,
    imgsz: Annotated[int, typer.Option(help="Side of the images, a multiple of 16.")] = 256,
    progressive: Annotated[
        bool, typer.Option(help="Start at half the image size and grow; much faster.")
    ] = False,
    batch: Annotated[int, typer.Option(min=1, help="Images in an update, over all processes.")] = 8,
    accumulate: Annotated[
        int,
        typer.Option(min=1, help="Compute a batch in this many parts, for a GPU of little memory."),
    ] = 1,
    lr: Annotated[float, typer.Option(help="Highest learning rate of AdamW.")] = 1e-3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    amp: Annotated[bool, typer.Option(help="bfloat16 autocast.")] = False,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Fuse the network with torch.compile.")
    ] = False,
    cuda_graph: Annotated[
        bool, typer.Option("--cuda-graph", help="Capture the training step as a CUDA graph.")
    ] = False,
    ema_decay: Annotated[
        float, typer.Option(help="What a step keeps of the averaged weights, 0 to 1.")
    ] = 0.998,
    seed: Annotated[
        int, typer.Option(help="Of the fresh weights, the order, the augmentation.")
    ] = 0,
    without: Annotated[
        list[str] | None,
        typer.Option(help="Leave out an ingredient of the augmentation, 'paste' say. Repeatable."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Weights to start from; an upstream ImageNet encoder will do."),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The run is kept in runs/train/NAME.", callback=check_run_name)
    ] = "exp",
    resume: Annotated[
        bool, typer.Option(help="Continue the run NAME, with the settings it was started with.")
    ] = False,
) -> None:
    """Train a network; every epoch is saved, and --resume continues (to the bit, on a CPU).

    On several GPUs: torchrun --nproc-per-node 4 -m rwkv_edge train ...

    Example: rwkv-edge train --variant tiny --data kvasir-seg --epochs 100 --progressive
    """
    from rwkv_edge.cli.loading import require_training
    from rwkv_edge.errors import UsageError

    require_training()
    from rwkv_edge.training import Processes, TrainSettings
    from rwkv_edge.training import train as run_training
    from rwkv_edge.training.augment import SHARES

    processes = Processes.of_environment()
    folder = Path("runs/train") / name
    started = (folder / "weights" / "last.safetensors").is_file()
    if resume:
        if not started:
            raise UsageError(f"--resume: no run to continue in {folder}")
        settings = TrainSettings.load(folder / "args.yaml")
    else:
        if data is None:
            raise UsageError(
                "--data is missing: give a folder with images/ and masks/, of splits, or a YAML"
            )
        if started:
            raise UsageError(f"{folder} holds a run; add --resume, or choose another --name")
        if epochs is not None and minutes is not None:
            raise UsageError("--epochs and --minutes exclude each other")
        if minutes is not None and not minutes > 0:
            raise UsageError(f"--minutes {minutes:g}: must be above 0")
        if not 0 <= ema_decay < 1:
            raise UsageError(f"--ema-decay {ema_decay:g}: give a value from 0 to below 1")
        if not lr > 0:
            raise UsageError(f"--lr {lr}: must be above 0")
        unknown = set(without or ()) - set(SHARES)
        if unknown:
            raise UsageError(f"--without {min(unknown)}: choose from {', '.join(SHARES)}")
        settings = TrainSettings(
            data=data.resolve(),
            variant=variant,
            extra=tuple(path.resolve() for path in extra or ()),
            without=tuple(without or ()),
            epochs=epochs or TrainSettings.epochs,
            minutes=minutes,
            repeat=repeat,
            imgsz=imgsz,
            progressive=progressive,
            batch=batch,
            accumulate=accumulate,
            lr=lr,
            device=device,
            amp=amp,
            compile=compile_,
            cuda_graph=cuda_graph,
            ema_decay=ema_decay,
            seed=seed,
            init=init.resolve() if init else None,
            name=name,
        )
    best = run_training(settings, folder, resume=resume, processes=processes)
    if not processes.leads:
        return
    print(f"best weights: {best}")
    print(f"pictures: {folder}/training.png, {folder}/curves.png, {folder}/validation.png")
    print(f"next: rwkv-edge eval --data {settings.data} --weights {best}")
