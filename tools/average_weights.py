"""Average the weights of runs that began with the same ones: often better than each of them.

    python tools/average_weights.py runs/train/a/weights/last.safetensors \
        runs/train/b/weights/last.safetensors --output mean.safetensors

A "model soup" (Wortsman et al., ICML 2022). It costs nothing in operation. Runs from different
weights lie in different valleys, and their mean is worthless: measure it with `rwkv-edge eval`.
Take `last`: the mean of the `best` inherits the luck by which a validation set chose them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from rwkv_edge.errors import CheckpointError, RwkvEdgeError
from rwkv_edge.models import load_model, save_checkpoint


def average(paths: list[Path], output: Path) -> None:
    """Write the mean of several checkpoints of one network; what they say of themselves stays.

    Raises:
        CheckpointError: unreadable, or of different networks.
    """
    loaded = [load_model(path) for path in paths]
    info = loaded[0][1]
    for path, (_, their) in zip(paths, loaded, strict=True):
        if (their.variant, their.names) != (info.variant, info.names):
            raise CheckpointError(f"{path}: is another network than {paths[0]}")
    states = [network.state_dict() for network, _ in loaded]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
    save_checkpoint(output, mean, info)


def main() -> None:
    """Average the files that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    if len(options.weights) < 2:
        parser.error("give two files or more")
    try:
        average(options.weights, options.output)
    except RwkvEdgeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
