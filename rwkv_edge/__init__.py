"""rwkv-edge: RWKV-UNet from labelled endoscopy images to a live overlay on a Jetson.

Research use only, not for diagnosis. Importing this package imports nothing heavy; the names below
live in their modules (`rwkv_edge.models`, `rwkv_edge.runtime`, `rwkv_edge.ops`, ...).
"""

__version__ = "0.1.0"
__all__ = ["__version__"]
