"""The live page: one picture, its state and its controls in a browser. Never imports Torch."""
