"""bi-WKV as a Torch op with gradients, linear in the number of tokens in time and memory.

With the distance written as a difference, exp(-(t-i-1) w) = exp(-w (t-1)) exp(w i), the sum over
all earlier tokens is a cumulative sum and so is the one over all later tokens. With centred
exponents this is exact as long as no exponential leaves the number format: float32 serves trained
networks, float64 everything up to |w| T = 300. Beyond that a pair of scans with a running maximum
takes over: exact without limit, slower by the cost of a Python loop over the tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_EXPONENT = {torch.float32: 80.0, torch.float64: 700.0}
"""exp() of anything larger overflows the type, of anything below its negative is subnormal."""


def bi_wkv(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Mix the tokens of each channel: the fast form of `bi_wkv_ref`, with gradients for all inputs.

    Args:
        w: (C,) decay for each step of distance, already divided by T; either sign.
        u: (C,) bonus of the token itself, already divided by T.
        k: (B, T, C) keys, any floating type.
        v: (B, T, C) values, of the type of `k`.

    Returns:
        (B, T, C) of the type of `k`; the arithmetic inside is at least float32.

    Raises:
        ValueError: the shapes do not fit together.
    """
    if k.ndim != 3 or k.shape != v.shape or w.shape != k.shape[2:] or u.shape != w.shape:
        raise ValueError(
            "bi_wkv needs w, u of shape (C,) and k, v of shape (B, T, C), got "
            f"{tuple(w.shape)}, {tuple(u.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    return bi_wkv_op(w, u, k, v)


@torch.library.custom_op("rwkv_edge::bi_wkv", mutates_args=())
def bi_wkv_op(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The op itself; `extension.py` gives it another form for CUDA tensors."""
    return torch_forward(w, u, k, v)


def torch_forward(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, exact: torch.dtype | None = None
) -> Tensor:
    """The op in Torch alone, on any device.

    Args:
        w: as the others, see `bi_wkv`.
        u: see there.
        k: see there.
        v: see there.
        exact: the type whose exponents hold the cumulative form; default: found out, for which the
            host reads `w` and `u`.
    """
    y = torch.empty_like(k, memory_format=torch.contiguous_format)
    exact = exact or _cumulative_type(w, u, k)
    sums = _DirectedSums(w.to(exact), k.shape[1]) if exact else None
    for part in _parts(k):
        keys, values = (_tokens_last(x[part], exact or torch.float64) for x in (k, v))
        if sums:
            y[part] = _CumulativeForward(sums, u, keys, values).y.mT
        else:
            y[part] = _ScanForward(w, u, keys, values).y.mT
    return y


@bi_wkv_op.register_fake
def _(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.empty_like(k, memory_format=torch.contiguous_format)


@torch.library.custom_op("rwkv_edge::bi_wkv_backward", mutates_args=())
def bi_wkv_backward_op(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Its gradients for w, u, k and v."""
    return torch_backward(grad, w, u, k, v)


def torch_backward(
    grad: Tensor,
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    exact: torch.dtype | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `torch_forward` for w, u, k and v."""
    grad_w, grad_u = (torch.zeros_like(x, dtype=torch.float64) for x in (w, u))
    grad_k, grad_v = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (k, v))
    exact = exact or _cumulative_type(w, u, k)
    sums = _DirectedSums(w.to(exact), k.shape[1]) if exact else None
    for part in _parts(k):
        keys, values, gy = (_tokens_last(x[part], exact or torch.float64) for x in (k, v, grad))
        if sums:
            parts = _cumulative_backward(gy, _CumulativeForward(sums, u, keys, values))
        else:
            parts = _scan_backward(gy, w, u, keys, values)
        grad_w += parts[0]
        grad_u += parts[1]
        grad_k[part] = parts[2].mT
        grad_v[part] = parts[3].mT
    return grad_w.to(w.dtype), grad_u.to(u.dtype), grad_k, grad_v


@bi_wkv_backward_op.register_fake
def _(
    grad: Tensor, w: Tensor, u: Tensor, k: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        torch.empty_like(w),
        torch.empty_like(u),
        torch.empty_like(k, memory_format=torch.contiguous_format),
        torch.empty_like(v, memory_format=torch.contiguous_format),
    )


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    ctx.save_for_backward(*inputs)


def _backward(ctx, grad: Tensor):  # type: ignore[no-untyped-def]
    return bi_wkv_backward_op(grad, *ctx.saved_tensors)


bi_wkv_op.register_autograd(_backward, setup_context=_setup_context)


def _parts(k: Tensor) -> list[slice]:
    """What to work on at once: on a CPU a sample, which stays in the cache; on a GPU all."""
    if k.device.type != "cpu":
        return [slice(None)]
    return [slice(b, b + 1) for b in range(k.shape[0])]


def _tokens_last(x: Tensor, dtype: torch.dtype) -> Tensor:
    """(B, T, C) of any type to contiguous (B, C, T): cumulative sums run along memory."""
    return x.mT.to(dtype, memory_format=torch.contiguous_format)


def _channel_sum(x: Tensor) -> Tensor:
    """(2, B, C, T) to (C,)."""
    return x.sum((0, 1, 3))


def _cumulative_type(w: Tensor, u: Tensor, k: Tensor) -> torch.dtype | None:
    """Return the smallest type whose exponents hold the cumulative form, backward too, if any.

    The largest exponent, in the backward pass: 1 / denominator (at most exp(|w| T) or exp(|u|), for
    the largest key counts 1) times a directed sum (at most exp(|w| T)). However small the other
    keys, what underflows is then negligible beside the denominator.
    """
    need = 2 * float(w.abs().max()) * k.shape[1] + float(u.abs().max())
    for dtype, limit in LARGEST_EXPONENT.items():
        if need < limit and dtype.itemsize >= k.dtype.itemsize:
            return dtype
    return None  # for a NaN, too: the scan carries it to the output


class _DirectedSums:
    """Decayed sums over all earlier and over all later tokens, as cumulative sums.

    It depends on w alone, so that one serves a whole batch.
    """

    def __init__(self, w: Tensor, tokens: int) -> None:
        position = torch.arange(tokens, dtype=w.dtype, device=w.device)
        exponent = w[:, None] * (position - (tokens - 1) / 2)
        self.rise, self.fall = torch.exp(exponent), torch.exp(-exponent)
        # the decay counts |t-i|-1 steps: the first step of distance is free
        self.fall_after = torch.exp(w[:, None] - exponent)
        self.rise_after = torch.exp(w[:, None] + exponent)

    def earlier(self, x: Tensor) -> Tensor:
        """sum_{i<t} exp(-(t-i-1) w) x[i] for x of shape (..., C, T)."""
        return _exclusive(torch.cumsum(x * self.rise, -1)) * self.fall_after

    def later(self, x: Tensor) -> Tensor:
        """sum_{i>t} exp(-(i-t-1) w) x[i] for x of shape (..., C, T)."""
        reverse = torch.cumsum((x * self.fall).flip(-1), -1)
        return _exclusive(reverse).flip(-1) * self.rise_after


def _exclusive(cumulative: Tensor) -> Tensor:
    """Shift by one token, so that each sum leaves its own token out without a subtraction."""
    return torch.nn.functional.pad(cumulative[..., :-1], (1, 0))


class _CumulativeForward:
    """y (B, C, T) by cumulative sums, and what its gradient needs again."""

    def __init__(self, sums: _DirectedSums, u: Tensor, keys: Tensor, values: Tensor) -> None:
        self.sums = sums
        self.exp_u = torch.exp(u.to(keys.dtype))[:, None]
        self.exp_k = torch.exp(keys - keys.amax(-1, keepdim=True))
        self.x = torch.stack((self.exp_k * values, self.exp_k))
        self.earlier, self.later = self.sums.earlier(self.x), self.sums.later(self.x)
        num, self.den = self.earlier + self.later + self.exp_u * self.x
        self.y = num / self.den


def _cumulative_backward(
    gy: Tensor, forward: _CumulativeForward
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients for w, u (C,) and k, v (B, C, T).

    With g = gy / den and h = -g y, numerator and denominator are linear in x = exp(k) (v, 1), so
    that the gradient for x is the same pair of directed sums, run the other way, of (g, h).
    """
    x = forward.x
    g = gy / forward.den
    gh = torch.stack((g, -g * forward.y))
    from_later, from_earlier = forward.sums.later(gh), forward.sums.earlier(gh)
    grad_x = from_later + from_earlier + forward.exp_u * gh
    grad_k = (grad_x * x).sum(0)
    grad_u = _channel_sum(forward.exp_u * x * gh)
    # d/dw of the earlier sum: -sum (t-i-1) ... = -(t-1) sum ... + sum i ...; the later one mirrored
    position = torch.arange(gy.shape[-1], dtype=gy.dtype, device=gy.device)
    grad_w = _channel_sum(
        x * (from_later - from_earlier) * position
        + gh * (forward.later * (position + 1) - forward.earlier * (position - 1))
    )
    return grad_w, grad_u, grad_k, forward.exp_k * grad_x[0]


class _Scans:
    """The same directed sums without any limit on the exponents: two scans with a running maximum.

    For x[t] = exp(keys[t]) values[t] each sum is kept as exp(top) times a mantissa. `moment` is the
    sum with every term multiplied by its distance |t-i|-1, which the gradient for w needs.
    """

    def __init__(self, w: Tensor, keys: Tensor, values: Tensor) -> None:
        self.earlier = _scan(w, keys, values)
        self.later = tuple(x.flip(-1) for x in _scan(w, keys.flip(-1), values.flip(-1)))


def _scan(w: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each token the (top, sum, moment) of all tokens before it.

    Args:
        w: (C,) float64.
        keys: (B, C, T) float64, the logarithm of each token's weight.
        values: (n, B, C, T) float64.

    Returns:
        (B, C, T), (n, B, C, T) and (n, B, C, T) float64.
    """
    top = torch.full_like(keys[..., 0], -torch.inf)
    total = torch.zeros_like(values[..., 0])
    moment = torch.zeros_like(total)
    states = []
    for t in range(keys.shape[-1]):
        states.append((top, total, moment))
        new_top = torch.maximum(top - w, keys[..., t])
        old, new = torch.exp(top - w - new_top), torch.exp(keys[..., t] - new_top)
        moment = (moment + total) * old
        total = total * old + values[..., t] * new
        top = new_top
    tops, totals, moments = zip(*states, strict=True)
    return torch.stack(tops, -1), torch.stack(totals, -1), torch.stack(moments, -1)


class _ScanForward:
    """y (B, C, T) by scans, and what its gradient needs again."""

    def __init__(self, w: Tensor, u: Tensor, keys: Tensor, values: Tensor) -> None:
        self.stacked = torch.stack((values, torch.ones_like(values)))
        scans = _Scans(w.double(), keys, self.stacked)
        own = u.double()[:, None] + keys
        tops = (scans.earlier[0], scans.later[0], own)
        self.top = torch.stack(tops).amax(0)
        weights = [torch.exp(top - self.top) for top in tops]
        self.own_weight = weights[2]
        self.moment = scans.earlier[2] * weights[0] + scans.later[2] * weights[1]
        num, self.den = (
            scans.earlier[1] * weights[0]
            + scans.later[1] * weights[1]
            + self.stacked * self.own_weight
        )
        self.y = num / self.den


def _scan_backward(
    gy: Tensor, w: Tensor, u: Tensor, keys: Tensor, values: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of `_cumulative_backward`, with 1 / den kept as exp(-top) times a mantissa."""
    forward = _ScanForward(w, u, keys, values)
    g = gy / forward.den
    gh = torch.stack((g, -g * forward.y))
    scans = _Scans(w.double(), -forward.top, gh)
    grad_x = gh * forward.own_weight
    for top, total, _ in (scans.earlier, scans.later):
        grad_x = grad_x + total * torch.exp(keys + top)
    grad_k = (grad_x * forward.stacked).sum(0)
    grad_u = _channel_sum(forward.stacked * gh * forward.own_weight)
    grad_w = -_channel_sum(gh * forward.moment)
    return grad_w, grad_u, grad_k, grad_x[0]
