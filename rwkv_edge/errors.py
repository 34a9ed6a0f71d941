"""Every error that a user can meet.

    RwkvEdgeError              exit code 1: something failed although the command was right
    ├── UsageError             exit code 2: the command line itself is wrong
    ├── DataError              images, masks, splits and data-set files
    ├── SourceError            a video, camera, stream or image that cannot be read
    ├── OutputError            a file or folder that cannot be written
    ├── DownloadError          a file that cannot be fetched, or is not the one that was meant
    ├── CheckpointError        weights that are missing, foreign, hostile or of another model
    ├── ExportError            a model that cannot become ONNX, or differs from Torch once it is
    ├── BackendError           a runtime that is missing, or refuses the model
    └── MissingDependencyError an optional package is not installed

Each carries one line that says what is wrong and how to mend it. The command line prints that line
and exits with `exit_code`; it never shows a traceback unless `--debug` is given.
"""

from __future__ import annotations


class RwkvEdgeError(Exception):
    """Base of all errors with a message meant for the user."""

    exit_code = 1


class UsageError(RwkvEdgeError):
    """The command line or a function argument is wrong."""

    exit_code = 2


class DataError(RwkvEdgeError):
    """A data set is missing, empty, damaged or inconsistent."""


class SourceError(RwkvEdgeError):
    """A video, camera, stream or image cannot be read."""


class OutputError(RwkvEdgeError):
    """A file or folder cannot be written."""


class DownloadError(RwkvEdgeError):
    """A file cannot be fetched, or is not the one that was meant."""


class CheckpointError(RwkvEdgeError):
    """Weights are missing, unreadable, unsafe or belong to another model."""


class ExportError(RwkvEdgeError):
    """A model cannot be exported, or its export differs from the original."""


class BackendError(RwkvEdgeError):
    """A runtime is unavailable or cannot run the model."""


class MissingDependencyError(RwkvEdgeError):
    """An optional package is not installed.

    Args:
        package: its name.
        extra: of rwkv-edge that brings it; None where that brings more than is needed.
        purpose: what needs it.
        instead: how to do without it.
    """

    def __init__(self, package: str, extra: str | None, purpose: str, instead: str = "") -> None:
        what = f"'rwkv-edge[{extra}]'" if extra else package
        super().__init__(
            f"{purpose} needs the package '{package}'; install it with pip install {what}"
            + (f", or {instead}" if instead else "")
        )
