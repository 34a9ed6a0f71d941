"""How good a model is on labelled images: figures, and the pictures behind them."""

from rwkv_edge.evaluation.evaluate import (
    Evaluation,
    ImageScore,
    evaluate,
    evaluate_masks,
    predict_labels,
    predict_probability,
)
from rwkv_edge.evaluation.report import draw_worst_cases, per_image_csv
from rwkv_edge.evaluation.summary import figures, summary

__all__ = [
    "Evaluation",
    "ImageScore",
    "draw_worst_cases",
    "evaluate",
    "evaluate_masks",
    "figures",
    "per_image_csv",
    "predict_labels",
    "predict_probability",
    "summary",
]
