"""The model-local ONNX functions behind our operators, in standard ones.

A runtime without our kernels inlines them. `BiWKV` has two exact bodies, chosen by the checkpoint's
decays: four cumulative sums, and, where their exponents would leave float32, a stabilised two-level
form. `ShiftMix2` and `ShiftMix3` are depthwise convolutions, one a mix.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

from rwkv_edge.operators import SHIFT_MIXES

LARGEST_REACH = 40.0
"""|w| T up to which the cumulative sums are exact in float32, whatever the keys: the largest key's
term is at least exp(-40) everywhere, and what underflows at exp(-87) is negligible beside it."""

_SIGNATURE = """
<domain: "rwkv_edge", opset_import: ["" : {opset}]>
BiWKV <plugin_version, plugin_namespace> (w, u, k, v) => (y)
"""

# Shapes: w, u (C), k, v, y (B, T, C). The cumulative sums run over axis 1, where they vectorise.
_CUMULATIVE = """
{
    kf = Cast <to = 1> (k)
    vf = Cast <to = 1> (v)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    half = Constant <value_float = 0.5> ()
    axis = Constant <value_int = 1> ()
    axes = Constant <value_ints = [1]> ()
    column = Constant <value_ints = [-1, 1]> ()
    shape = Shape (kf)
    tokens = Gather (shape, one)
    steps = Range (zero, tokens, one)
    last = Sub (tokens, one)
    last_f = Cast <to = 1> (last)
    centre = Mul (last_f, half)
    steps_f = Cast <to = 1> (steps)
    centred = Sub (steps_f, centre)
    position = Reshape (centred, column)
    exponent = Mul (position, w)
    negative = Neg (exponent)
    rise = Exp (exponent)
    fall = Exp (negative)
    after_fall = Sub (w, exponent)
    fall_after = Exp (after_fall)
    after_rise = Add (w, exponent)
    rise_after = Exp (after_rise)
    top = ReduceMax <keepdims = 1> (kf, axes)
    shifted = Sub (kf, top)
    den_x = Exp (shifted)
    num_x = Mul (den_x, vf)
    num_rise = Mul (num_x, rise)
    den_rise = Mul (den_x, rise)
    num_fall = Mul (num_x, fall)
    den_fall = Mul (den_x, fall)
    num_before = CumSum <exclusive = 1> (num_rise, axis)
    den_before = CumSum <exclusive = 1> (den_rise, axis)
    num_behind = CumSum <exclusive = 1, reverse = 1> (num_fall, axis)
    den_behind = CumSum <exclusive = 1, reverse = 1> (den_fall, axis)
    num_earlier = Mul (num_before, fall_after)
    den_earlier = Mul (den_before, fall_after)
    num_later = Mul (num_behind, rise_after)
    den_later = Mul (den_behind, rise_after)
    bonus = Exp (u)
    num_own = Mul (bonus, num_x)
    den_own = Mul (bonus, den_x)
    num_others = Add (num_earlier, num_later)
    den_others = Add (den_earlier, den_later)
    num = Add (num_others, num_own)
    den = Add (den_others, den_own)
    ratio = Div (num, den)
    y = CastLike (ratio, k)
}
"""

# The tokens are cut into N chunks of L. Inside a chunk every pair is weighed; each chunk is summed
# up as exp(top) (num, den), seen from its last and its first token, and every other one weighed.
# Channels first: (B, C, N, L). Missing tokens have the key `void`, whose exp() is 0.
_CHUNKED = """
{
    kf = Cast <to = 1> (k)
    vf = Cast <to = 1> (v)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    one_f = Constant <value_float = 1.0> ()
    length = Constant <value_int = 16> ()
    length_f = Constant <value_float = 16.0> ()
    last_f = Constant <value_float = 15.0> ()
    void = Constant <value_float = -1e30> ()
    zero_f = Constant <value_float = 0.0> ()
    chunks_shape = Constant <value_ints = [0, 0, -1, 16]> ()
    tokens_shape = Constant <value_ints = [0, 0, -1]> ()
    channel_1 = Constant <value_ints = [-1, 1, 1]> ()
    channel_2 = Constant <value_ints = [-1, 1, 1, 1]> ()
    column = Constant <value_ints = [-1, 1]> ()
    minus_1 = Constant <value_ints = [-1]> ()
    minus_2 = Constant <value_ints = [-2]> ()
    axis_2 = Constant <value_ints = [2]> ()
    start_0 = Constant <value_ints = [0]> ()
    pad_front = Constant <value_ints = [0, 0, 0, 0, 0]> ()

    full = Shape (kf)
    tokens = Gather (full, one)
    minus_tokens = Neg (tokens)
    missing = Mod (minus_tokens, length)
    missing_1 = Unsqueeze (missing, start_0)
    pads = Concat <axis = 0> (pad_front, missing_1)
    kt = Transpose <perm = [0, 2, 1]> (kf)
    vt = Transpose <perm = [0, 2, 1]> (vf)
    kp = Pad (kt, pads, void)
    vp = Pad (vt, pads, zero_f)
    key = Reshape (kp, chunks_shape)
    value = Reshape (vp, chunks_shape)
    w3 = Reshape (w, channel_1)
    w4 = Reshape (w, channel_2)
    u4 = Reshape (u, channel_2)

    inner = Range (zero, length, one)
    i = Cast <to = 1> (inner)
    i_column = Reshape (i, column)
    offset = Sub (i_column, i)
    distance = Abs (offset)
    free = Sub (distance, one_f)
    decay = Mul (w4, free)
    far = Neg (decay)
    is_own = Equal (distance, zero_f)
    bias = Where (is_own, u4, far)
    key_row = Unsqueeze (key, minus_2)
    inside = Add (key_row, bias)
    inside_top_k = ReduceMax <keepdims = 1> (inside, minus_1)
    inside_shift = Sub (inside, inside_top_k)
    inside_weight = Exp (inside_shift)
    value_column = Unsqueeze (value, minus_1)
    inside_num_k = MatMul (inside_weight, value_column)
    inside_num = Squeeze (inside_num_k, minus_1)
    inside_den = ReduceSum <keepdims = 0> (inside_weight, minus_1)
    inside_top = Squeeze (inside_top_k, minus_1)

    from_last = Sub (last_f, i)
    to_last = Mul (w3, from_last)
    to_first = Mul (w3, i)
    key_last = Sub (key, to_last)
    key_first = Sub (key, to_first)
    top_last = ReduceMax <keepdims = 1> (key_last, minus_1)
    top_first = ReduceMax <keepdims = 1> (key_first, minus_1)
    shift_last = Sub (key_last, top_last)
    shift_first = Sub (key_first, top_first)
    exp_last = Exp (shift_last)
    exp_first = Exp (shift_first)
    value_last = Mul (exp_last, value)
    value_first = Mul (exp_first, value)
    sum_last = ReduceSum <keepdims = 1> (value_last, minus_1)
    sum_first = ReduceSum <keepdims = 1> (value_first, minus_1)
    mass_last = ReduceSum <keepdims = 1> (exp_last, minus_1)
    mass_first = ReduceSum <keepdims = 1> (exp_first, minus_1)

    key_shape = Shape (key)
    two = Constant <value_int = 2> ()
    count = Gather (key_shape, two)
    outer = Range (zero, count, one)
    c = Cast <to = 1> (outer)
    c_column = Reshape (c, column)
    ahead = Sub (c_column, c)
    behind = Neg (ahead)
    is_earlier = Greater (ahead, zero_f)
    is_later = Less (ahead, zero_f)
    gap_earlier = Sub (ahead, one_f)
    gap_later = Sub (behind, one_f)
    step = Mul (w3, length_f)
    fade_earlier = Mul (step, gap_earlier)
    fade_later = Mul (step, gap_later)
    row_last = Transpose <perm = [0, 1, 3, 2]> (top_last)
    row_first = Transpose <perm = [0, 1, 3, 2]> (top_first)
    seen_earlier = Sub (row_last, fade_earlier)
    seen_later = Sub (row_first, fade_later)
    logit_earlier = Where (is_earlier, seen_earlier, void)
    logit_later = Where (is_later, seen_later, void)
    top_earlier = ReduceMax <keepdims = 1> (logit_earlier, minus_1)
    top_later = ReduceMax <keepdims = 1> (logit_later, minus_1)
    shift_earlier = Sub (logit_earlier, top_earlier)
    shift_later = Sub (logit_later, top_later)
    weight_earlier = Exp (shift_earlier)
    weight_later = Exp (shift_later)
    num_earlier = MatMul (weight_earlier, sum_last)
    num_later = MatMul (weight_later, sum_first)
    den_earlier = MatMul (weight_earlier, mass_last)
    den_later = MatMul (weight_later, mass_first)

    token_earlier = Sub (top_earlier, to_first)
    token_later = Sub (top_later, to_last)
    top_others = Max (token_earlier, token_later)
    top = Max (top_others, inside_top)
    scale_inside_log = Sub (inside_top, top)
    scale_earlier_log = Sub (token_earlier, top)
    scale_later_log = Sub (token_later, top)
    scale_inside = Exp (scale_inside_log)
    scale_earlier = Exp (scale_earlier_log)
    scale_later = Exp (scale_later_log)
    part_num_inside = Mul (scale_inside, inside_num)
    part_num_earlier = Mul (scale_earlier, num_earlier)
    part_num_later = Mul (scale_later, num_later)
    part_den_inside = Mul (scale_inside, inside_den)
    part_den_earlier = Mul (scale_earlier, den_earlier)
    part_den_later = Mul (scale_later, den_later)
    num = Sum (part_num_inside, part_num_earlier, part_num_later)
    den = Sum (part_den_inside, part_den_earlier, part_den_later)
    ratio_chunks = Div (num, den)
    ratio_padded = Reshape (ratio_chunks, tokens_shape)
    tokens_1 = Unsqueeze (tokens, start_0)
    ratio = Slice (ratio_padded, start_0, tokens_1, axis_2)
    ratio_t = Transpose <perm = [0, 2, 1]> (ratio)
    y = CastLike (ratio_t, k)
}
"""

# Shapes: x (B, C, H, W), weights (C, 1, 3, 3), y (B, H, W, C).
_SHIFT_MIX = """
<domain: "rwkv_edge", opset_import: ["" : {opset}]>
{name} <group, plugin_version, plugin_namespace> (x, {weights}) => ({outputs})
{{
{body}
}}
"""
_MIX = """
    map{n} = Conv <group: int = @group, pads = [1, 1, 1, 1]> (x, weight{n})
    y{n} = Transpose <perm = [0, 2, 3, 1]> (map{n})
"""


def bi_wkv_function(reach: float, opset: int) -> onnx.FunctionProto:
    """Return the function that defines bi-WKV for runtimes that do not know it.

    Args:
        reach: the largest |w| T of the model, which decides between the two bodies.
        opset: version of the standard operators.
    """
    body = _CUMULATIVE if reach <= LARGEST_REACH else _CHUNKED
    function: onnx.FunctionProto = parser.parse_function(_SIGNATURE.format(opset=opset) + body)
    return function


def largest_reach(decays: list[np.ndarray]) -> float:
    """Return the largest |w| T of a model, `decays` being its undivided spatial decays (C,)."""
    return max((float(np.abs(decay).max()) for decay in decays), default=0.0)


def shift_mix_function(mixes: int, opset: int) -> onnx.FunctionProto:
    """Return the function that defines ShiftMix for runtimes that do not know it.

    Args:
        mixes: how many, 2 or 3; a function has a fixed number of outputs.
        opset: version of the standard operators.
    """
    text = _SHIFT_MIX.format(
        opset=opset,
        name=SHIFT_MIXES[mixes],
        weights=", ".join(f"weight{n}" for n in range(mixes)),
        outputs=", ".join(f"y{n}" for n in range(mixes)),
        body="".join(_MIX.format(n=n) for n in range(mixes)),
    )
    function: onnx.FunctionProto = parser.parse_function(text)
    return function
