"""From a word of `rwkv-edge compare` or `robustness` to a model with its preprocessing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rwkv_edge.cli.loading import open_runner
from rwkv_edge.config import VARIANTS
from rwkv_edge.errors import BackendError, UsageError
from rwkv_edge.preprocess import FloatArray, UInt8Array
from rwkv_edge.weights import shipped_checkpoint


@dataclass(frozen=True)
class Opened:
    """A model that takes a frame and gives probabilities at the frame's own resolution."""

    name: str
    backend: str
    input_size: tuple[int, int]
    names: tuple[str, ...] | None
    """The classes, as `DataSet.names`; None: the file does not say."""
    segment: Callable[[UInt8Array], FloatArray]


def open_contestant(
    side: str,
    given: str,
    preprocess: str | None,
    backend: str,
    imgsz: str | None,
    stack: ExitStack,
) -> Opened:
    """Open a variant by name, a file of ours, or a foreign ONNX file with declared preprocessing.

    Args:
        side: 'a-' or 'b-' or nothing, before the option's name, for messages.
        given: a variant or a file.
        preprocess: of a foreign file; None: the file is one of ours.
        backend: of ours.
        imgsz: of ours.
        stack: closes it.

    Raises:
        UsageError, BackendError, CheckpointError: as their messages say.
    """
    path = Path(given)
    if preprocess is not None:
        from rwkv_edge.runtime.foreign import ForeignModel, Preprocess

        if path.suffix != ".onnx":
            raise UsageError(f"--{side}preprocess is for ONNX files, not for {given}")
        foreign = ForeignModel(path, Preprocess.parse(preprocess))
        return Opened(path.name, foreign.backend, foreign.input_size, None, foreign)
    if given in VARIANTS and not path.exists():
        option = f"--{side.rstrip('-') or 'model'}"
        shipped_checkpoint(given, f"give the file with {option} FILE")
        runner = open_runner(None, None, given, backend, imgsz)
    else:
        try:
            runner = open_runner(path, None, None, backend, imgsz)
        except BackendError as error:
            if path.suffix != ".onnx" or not path.is_file():
                raise
            hint = f"if it is of another project, declare its input with --{side}preprocess"
            raise BackendError(f"{error}; {hint}") from error
    stack.enter_context(runner)
    from rwkv_edge.evaluation import predict_probability

    size = runner.info.input_size
    return Opened(
        path.name,
        runner.backend,
        size,
        runner.info.names,
        lambda image: predict_probability(runner, size, image),
    )
