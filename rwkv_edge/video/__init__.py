"""Frames in, overlays out: sources, the pipeline, drawing and sinks. Never imports Torch."""

from rwkv_edge.video.pipeline import Pipeline
from rwkv_edge.video.result import Result
from rwkv_edge.video.segmenting import STAGES
from rwkv_edge.video.source import Frame, Source, open_source
from rwkv_edge.video.statistics import Statistics

__all__ = ["STAGES", "Frame", "Pipeline", "Result", "Source", "Statistics", "open_source"]
