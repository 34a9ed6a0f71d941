"""Training: one readable loop, its losses, schedules and augmentation."""

from rwkv_edge.training.distributed import Processes
from rwkv_edge.training.loop import train
from rwkv_edge.training.settings import TrainSettings

__all__ = ["Processes", "TrainSettings", "train"]
