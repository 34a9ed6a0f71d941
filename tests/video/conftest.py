from __future__ import annotations

from pathlib import Path

import pytest

from tests.video.clips import numbered, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Twenty frames of 64 x 48 pixels, ten a second."""
    return write_clip(tmp_path / "clip.mp4", numbered(20))
