"""The table of public data sets, `sources.json`: address, licence and official page of each."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

TABLE = Path(__file__).with_name("sources.json")


@dataclass(frozen=True)
class Source:
    """A data set that its owners offer."""

    name: str
    title: str
    page: str
    """The official one, with the terms."""
    url: str | None
    """Of a zip archive; None: there is no lasting address."""
    sha256: str | None
    """Published by the owners; None: they publish none."""
    size: str
    licence: str
    note: str
    source: str
    """Where this row was read."""


def load_sources() -> dict[str, Source]:
    """Return the rows of the table by name."""
    rows = json.loads(TABLE.read_text(encoding="utf-8"))
    return {row["name"]: Source(**row) for row in rows}
