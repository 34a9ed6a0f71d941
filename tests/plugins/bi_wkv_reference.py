"""bi-WKV and its gradients in float64, straight from the formula, and cases to try kernels on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bi_wkv.npz"


@dataclass(frozen=True)
class Case:
    """Inputs of one call."""

    name: str
    w: npt.NDArray[np.float32]
    u: npt.NDArray[np.float32]
    k: npt.NDArray[np.float32]
    v: npt.NDArray[np.float32]

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Gradients:
    """Of a sum of the outputs, weighted with `grad_y`."""

    w: Array
    u: Array
    k: Array
    v: Array
    w_terms: (
        float  # the largest sum of absolute terms behind an entry of w: what its error scales with
    )


def _shares(case: Case, c: int) -> tuple[Array, Array]:
    """The weights (B, T, T) of token i in output t, which add up to one, and |t-i|-1."""
    tokens = np.arange(case.k.shape[1])
    distance = np.abs(tokens[:, None] - tokens[None, :]) - 1.0
    exponent = -distance * np.float64(case.w[c]) + case.k[:, None, :, c].astype(np.float64)
    exponent[:, tokens, tokens] = np.float64(case.u[c]) + case.k[:, :, c]
    share = np.exp(exponent - exponent.max(axis=2, keepdims=True))
    np.fill_diagonal(distance, 0.0)
    return share / share.sum(axis=2, keepdims=True), distance


def forward(case: Case) -> Array:
    """y, (B, T, C)."""
    return np.stack(
        [
            np.einsum("bti,bi->bt", _shares(case, c)[0], case.v[:, :, c].astype(np.float64))
            for c in range(case.w.size)
        ],
        axis=2,
    )


def backward(case: Case, grad_y: npt.NDArray[np.float32]) -> Gradients:
    """Each output is a softmax-weighted mean, whose derivative by an exponent is known."""
    w, u, w_terms = np.zeros(case.w.size), np.zeros(case.w.size), 0.0
    k, v = np.zeros(case.k.shape), np.zeros(case.k.shape)
    for c in range(case.w.size):
        share, distance = _shares(case, c)
        value, g = case.v[:, :, c].astype(np.float64), grad_y[:, :, c].astype(np.float64)
        y = np.einsum("bti,bi->bt", share, value)
        slope = g[:, :, None] * share * (value[:, None, :] - y[:, :, None])
        v[:, :, c] = np.einsum("bti,bt->bi", share, g)
        k[:, :, c] = slope.sum(axis=1)
        u[c] = np.einsum("btt->", slope)
        w[c] = -(slope * distance).sum()
        w_terms = max(w_terms, float(np.abs(slope * distance).sum()))
    return Gradients(w, u, k, v, w_terms)


def golden_cases() -> Iterator[tuple[Case, Array]]:
    """The cases of tests/golden with the outputs of the published model's own formula."""
    data = np.load(GOLDEN)
    for name in sorted({key.split(".")[0] for key in data.files}):
        inputs = (data[f"{name}.{part}"] for part in "wukv")
        yield Case(name, *inputs), data[f"{name}.y"]


def random_case(
    batch: int,
    tokens: int,
    channels: int,
    *,
    decay: float = 3.0,
    key: float = 1.0,
    bonus: float = 1.0,
    name: str = "",
) -> Case:
    """Random inputs: |w| * tokens up to `decay`, of both signs; keys spread by `key`."""
    rng = np.random.default_rng([batch, tokens, channels])
    return Case(
        name or f"B{batch}-T{tokens}-C{channels}",
        (rng.uniform(-1, 1, channels) * decay / tokens).astype(np.float32),
        (rng.uniform(-1, 1, channels) * bonus / tokens).astype(np.float32),
        (rng.normal(0, 1, (batch, tokens, channels)) * key).clip(-100, 100).astype(np.float32),
        rng.normal(0, 1, (batch, tokens, channels)).astype(np.float32),
    )


def _one_sided(sign: float, tokens: int) -> Case:
    """|w| T = 300 of one sign in every channel."""
    case = random_case(1, tokens, 4, key=3.0, name=f"w*T={sign * 300:+.0f}-T{tokens}")
    return Case(case.name, np.full(4, sign * 300 / tokens, np.float32), case.u, case.k, case.v)


def _ramp() -> Case:
    """Keys that fall from 100 to -100 within one segment, next to others: local scales matter."""
    case = random_case(1, 300, 6, decay=300.0, name="ramp")
    k = np.tile(np.linspace(100, -100, 300, dtype=np.float32)[None, :, None], (1, 1, 6))
    k[:, ::7] *= -1
    return Case(case.name, case.w, case.u, k, case.v)


CASES = [
    *(random_case(2, t, c) for t in (1, 2, 3, 97) for c in (1, 7, 33)),
    random_case(1, 97, 288),
    random_case(3, 256, 32),
    random_case(1, 1024, 16),
    random_case(2, 1025, 7),
    random_case(1, 1025, 6),
    random_case(2, 200, 10, key=40.0, name="large-keys"),
    random_case(1, 700, 8, key=40.0, decay=300.0, name="large-keys-strong-decay"),
    random_case(1, 3, 8, key=40.0, decay=300.0, name="three-tokens-strong-decay"),
    random_case(1, 50, 8, bonus=3000.0, name="large-bonus"),
    random_case(1, 1, 4, bonus=200.0, name="one-token-large-bonus"),
    *(_one_sided(sign, tokens) for sign in (1.0, -1.0) for tokens in (3, 20, 256, 1024)),
    _ramp(),
]

# More blocks of 128 and 256 tokens than a block walks over: these take the scan of carries too.
LONG_CASES = [
    random_case(1, 2500, 3, name="long-odd"),
    random_case(1, 4200, 2, decay=300.0, name="long-even"),
]
