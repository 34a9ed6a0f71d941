"""Procedural endoscopy: rendered images and clips of a colon, with exact polyp masks.

A colon is a bent tube with folds (`lumen`), dressed in mucosa (`mucosa`) and polyps (`polyp`), lit
by the endoscope (`light`), looked at through its lens (`camera`) along a path (`path`), ray-marched
(`march`, `scene`) and turned into video (`sensor`). `compose` draws all of that from one seed.
Lengths are in radii of the lumen, vectors are planes (`vectors`), colours are BGR.
"""

from __future__ import annotations

from .render import SynthFrame, render_clip, render_image
from .writer import write_dataset

__all__ = ["SynthFrame", "render_clip", "render_image", "write_dataset"]
