"""How good a model is on labelled images: figures, and the pictures behind them."""

from rwkv_edge.evaluation.evaluate import Evaluation, ImageScore, evaluate, predict_labels
from rwkv_edge.evaluation.report import draw_worst_cases, per_image_csv

__all__ = [
    "Evaluation",
    "ImageScore",
    "draw_worst_cases",
    "evaluate",
    "per_image_csv",
    "predict_labels",
]
