"""The table of weights: what ships in the package, what a release offers, and their hashes.

`registry.json` is written by tools/ship_weights.py from the files themselves, never by hand.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rwkv_edge.cache import cache_path
from rwkv_edge.errors import CheckpointError
from rwkv_edge.files import file_sha256, write_json

FOLDER = Path(__file__).parent
REGISTRY = FOLDER / "registry.json"


@dataclass(frozen=True)
class Entry:
    """One file of weights."""

    name: str
    variant: str
    size: int
    """Bytes."""
    sha256: str
    training: str
    """Data and recipe, in a sentence."""
    dice: float | None
    """Mean Dice of images; None: not measured."""
    measured_on: str | None
    """Data set, split and number of images."""
    url: str | None
    """Where a release offers it; None: nowhere."""

    @property
    def shipped(self) -> Path:
        """Where it is, if it ships in the package."""
        return FOLDER / self.name

    @property
    def cached(self) -> Path:
        """Where it is, if it was fetched; another hash has another folder."""
        return cache_path() / "weights" / self.sha256[:16] / self.name

    def place(self) -> Path | None:
        """Return where the file is; None: not on this machine."""
        return next((path for path in (self.shipped, self.cached) if path.is_file()), None)

    def is_intact(self, path: Path) -> bool:
        """Tell whether a file has this entry's size and SHA-256."""
        return path.stat().st_size == self.size and file_sha256(path) == self.sha256


def load_registry() -> list[Entry]:
    """Read the table.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        return [Entry(**row) for row in json.loads(REGISTRY.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{REGISTRY}: no registry of weights ({error})") from error


def save_registry(entries: list[Entry]) -> None:
    """Write the table, whole or not at all."""
    write_json(REGISTRY, [asdict(entry) for entry in entries])
