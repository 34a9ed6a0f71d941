"""`rwkv-edge train`."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from rwkv_edge.cli.ranges import above, at_least, between
from rwkv_edge.config import DEFAULT_TEACHER_SHARE, MAX_BATCH, VARIANTS
from rwkv_edge.files import check_run_name
from rwkv_edge.weights import shipped_checkpoint

_DATA, _NETWORK, _COURSE = "Data", "Network", "Course"
_AUGMENTATION, _TEACHER, _MACHINE = "Augmentation", "Teacher", "Machine"
"""The parts of the help, which would be one long list."""


def train(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder with images/ and masks/, of splits, or of volumes; or a YAML.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    variant: Annotated[
        str, typer.Option(help="tiny, small, base or unet.", rich_help_panel=_NETWORK)
    ] = "tiny",
    extra: Annotated[
        list[Path] | None,
        typer.Option(
            help="A further folder of training pairs, as synth writes; repeatable.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training images. Default: 100.",
            callback=at_least(1),
            rich_help_panel=_COURSE,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Train this long instead of counting epochs.",
            callback=above(0),
            rich_help_panel=_COURSE,
        ),
    ] = None,
    repeat: Annotated[
        int,
        typer.Option(
            help="Passes in an epoch, for a GPU that does one in a second.",
            callback=at_least(1),
            rich_help_panel=_COURSE,
        ),
    ] = 1,
    imgsz: Annotated[
        int, typer.Option(help="Side of the images, a multiple of 16.", rich_help_panel=_NETWORK)
    ] = 256,
    progressive: Annotated[
        bool,
        typer.Option(
            "--progressive",
            help="Start at half the image size and grow; much faster.",
            rich_help_panel=_COURSE,
        ),
    ] = False,
    batch: Annotated[
        int,
        typer.Option(
            help="Images in an update, over all processes.",
            callback=between(1, MAX_BATCH),
            rich_help_panel=_COURSE,
        ),
    ] = 8,
    accumulate: Annotated[
        int,
        typer.Option(
            help="Compute a batch in this many parts, for a GPU of little memory.",
            callback=between(1, MAX_BATCH),
            rich_help_panel=_MACHINE,
        ),
    ] = 1,
    lr: Annotated[
        float,
        typer.Option(
            help="Highest learning rate of AdamW.",
            callback=above(0, at_most=1),
            rich_help_panel=_COURSE,
        ),
    ] = 1e-3,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, ...", rich_help_panel=_MACHINE)
    ] = "auto",
    amp: Annotated[
        bool, typer.Option("--amp", help="bfloat16 autocast.", rich_help_panel=_MACHINE)
    ] = False,
    compile_: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Fuse the network with torch.compile; with --amp on a CPU twice as fast.",
            rich_help_panel=_MACHINE,
        ),
    ] = False,
    cuda_graph: Annotated[
        bool,
        typer.Option(
            "--cuda-graph",
            help="Capture the training step as a CUDA graph.",
            rich_help_panel=_MACHINE,
        ),
    ] = False,
    ema_decay: Annotated[
        float,
        typer.Option(
            help="What a step keeps of the averaged weights, 0 to 1.",
            callback=at_least(0, below=1),
            rich_help_panel=_COURSE,
        ),
    ] = 0.998,
    seed: Annotated[
        int,
        typer.Option(
            help="Of the fresh weights, the order, the augmentation.",
            callback=between(0, 2**32 - 1),
            rich_help_panel=_COURSE,
        ),
    ] = 0,
    without: Annotated[
        list[str] | None,
        typer.Option(
            help="Leave out an ingredient of the augmentation, 'paste' say. Repeatable.",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = None,
    light: Annotated[
        bool,
        typer.Option(
            "--light",
            help="Augment by flips, turns and colours alone: better where there is no time for "
            "hundreds of passes.",
            rich_help_panel=_AUGMENTATION,
        ),
    ] = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: tiny, small, base, unet (shipped), a checkpoint, or an "
            "upstream ImageNet encoder. A smaller RWKV-UNet grows into a larger one.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    teacher: Annotated[
        list[str] | None,
        typer.Option(
            help="A larger network to learn from beside the labels: tiny, small, base, unet "
            "(shipped), a checkpoint or .onnx. Repeatable: their mean.",
            rich_help_panel=_TEACHER,
        ),
    ] = None,
    teacher_preprocess: Annotated[
        str | None,
        typer.Option(
            help="What the teachers take if they are ONNX files of another project, in the words "
            "of compare --b-preprocess; one declaration for all of them.",
            rich_help_panel=_TEACHER,
        ),
    ] = None,
    teacher_share: Annotated[
        float | None,
        typer.Option(
            help="Of what is learnt from, 0 to 1; the labels keep the rest. Default: "
            f"{DEFAULT_TEACHER_SHARE}.",
            callback=between(0, 1),
            rich_help_panel=_TEACHER,
        ),
    ] = None,
    name: Annotated[
        str, typer.Option(help="The run is kept in runs/train/NAME.", callback=check_run_name)
    ] = "exp",
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run NAME, with the settings it was started with."
        ),
    ] = False,
) -> None:
    """Train a network; every epoch is saved, and --resume continues (to the bit, on a CPU).

    On several GPUs: torchrun --nproc-per-node 4 -m rwkv_edge train ...

    Example: rwkv-edge train --variant tiny --data kvasir-seg --epochs 100 --progressive
    """
    from rwkv_edge.cli.console import given_options
    from rwkv_edge.cli.contestants import open_contestant
    from rwkv_edge.cli.loading import require_training
    from rwkv_edge.errors import UsageError

    require_training()
    from rwkv_edge.training import Processes, TrainSettings
    from rwkv_edge.training import train as run_training
    from rwkv_edge.training.augment import LIGHT, SHARES

    processes = Processes.of_environment()
    folder = Path("runs/train") / name
    started = (folder / "weights" / "last.safetensors").is_file()
    if resume:
        if not started:
            raise UsageError(f"--resume: no run to continue in {folder}")
        if others := given_options(context).keys() - {"--resume", "--name"}:
            raise UsageError(
                f"--resume goes on with the settings of the start: leave out {min(others)}"
            )
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
        left_out = set(without or ()) | (set(SHARES) - set(LIGHT) if light else set())
        unknown = left_out - set(SHARES)
        if not teacher and (teacher_preprocess is not None or teacher_share is not None):
            named = "--teacher-share" if teacher_preprocess is None else "--teacher-preprocess"
            raise UsageError(f"{named}: no --teacher is given")
        if unknown:
            raise UsageError(f"--without {min(unknown)}: choose from {', '.join(SHARES)}")
        settings = TrainSettings(
            data=data.resolve(),
            variant=variant,
            extra=tuple(path.resolve() for path in extra or ()),
            without=tuple(name for name in SHARES if name in left_out),
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
            init=_weights_of(init) if init else None,
            teachers=tuple(
                str(Path(given).resolve()) if Path(given).exists() else given
                for given in teacher or ()
            ),
            teacher_preprocess=teacher_preprocess,
            teacher_share=DEFAULT_TEACHER_SHARE if teacher_share is None else teacher_share,
            name=name,
        )
    with ExitStack() as stack:
        opened = [
            open_contestant(
                "teacher-", given, settings.teacher_preprocess, "onnxruntime", None, stack
            ).segment
            for given in settings.teachers
        ]
        best = run_training(settings, folder, resume=resume, processes=processes, teachers=opened)
    if not processes.leads:
        return
    print(f"best weights: {best}")
    print(f"pictures: {folder}/training.png, {folder}/curves.png, {folder}/validation.png")
    words = ["rwkv-edge", "eval", "--data", str(settings.data), "--weights", str(best)]
    print(f"next: {shlex.join(words)}")


def _weights_of(given: str) -> Path:
    """Return the file that `--init` means: a file's path comes before a variant's name."""
    path = Path(given)
    if given in VARIANTS and not path.exists():
        return shipped_checkpoint(given, "give the file with --init FILE").resolve()
    return path.resolve()
