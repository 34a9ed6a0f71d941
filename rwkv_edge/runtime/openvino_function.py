"""bi-WKV as OpenVINO likes it: sums as products with triangular matrices of ones.

OpenVINO knows no model-local functions and its cumulative sum is scalar code, so `for_openvino`
exchanges the body of the exported function and then writes it out wherever it is called.
"""

from __future__ import annotations

import onnx
from onnx import ModelProto, inliner, parser

from rwkv_edge.operators import BI_WKV

_OPERATOR = "CumSum"

# Shapes: w, u (C), k, v, y (B, T, C). Numerator and denominator stand side by side, 2 C wide, cut
# into N chunks of 32 tokens. What stands before a token is the sum over its own chunk, a product
# with a 32 x 32 triangle, and the sum over the chunks before it, one with an N x N triangle.
_START = """
<domain: "rwkv_edge", opset_import: ["" : {opset}]>
BiWKV <plugin_version, plugin_namespace> (w, u, k, v) => (y)
{{
    kf = Cast <to = 1> (k)
    vf = Cast <to = 1> (v)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    two = Constant <value_int = 2> ()
    length = Constant <value_int = 32> ()
    half = Constant <value_float = 0.5> ()
    first_0 = Constant <value_ints = [0]> ()
    first_1 = Constant <value_ints = [1]> ()
    axis_1 = Constant <value_ints = [1]> ()
    axis_2 = Constant <value_ints = [2]> ()
    column = Constant <value_ints = [-1, 1]> ()
    chunked_start = Constant <value_ints = [0, -1, 32]> ()
    pads_start = Constant <value_ints = [0, 0, 0, 0]> ()

    shape = Shape (kf)
    channels = Gather (shape, two)
    doubled = Mul (channels, two)
    width = Reshape (doubled, first_1)
    tokens = Gather (shape, one)
    tokens_1 = Reshape (tokens, first_1)
    minus_tokens = Neg (tokens)
    missing = Mod (minus_tokens, length)
    missing_1 = Reshape (missing, first_1)
    pads = Concat <axis = 0> (pads_start, missing_1, first_0)
    padded_tokens = Add (tokens, missing)
    chunks = Div (padded_tokens, length)
    chunked_shape = Concat <axis = 0> (chunked_start, width)
    tokens_shape = Constant <value_ints = [0, -1]> ()
    flat_shape = Concat <axis = 0> (tokens_shape, width)
    inner = Range (zero, length, one)
    inner_column = Reshape (inner, column)
    outer = Range (zero, chunks, one)
    outer_column = Reshape (outer, column)

    steps = Range (zero, tokens, one)
    last = Sub (tokens, one)
    last_f = Cast <to = 1> (last)
    centre = Mul (last_f, half)
    steps_f = Cast <to = 1> (steps)
    centred = Sub (steps_f, centre)
    position = Reshape (centred, column)
    rising = Mul (position, w)
    falling = Neg (rising)
    after_rising = Add (w, falling)
    after_falling = Add (w, rising)
    bonus_1 = Exp (u)
    bonus = Concat <axis = 0> (bonus_1, bonus_1)

    top = ReduceMax <keepdims = 1> (kf, axis_1)
    shifted = Sub (kf, top)
    den_x = Exp (shifted)
    num_x = Mul (den_x, vf)
    x = Concat <axis = 2> (num_x, den_x)
    own = Mul (x, bonus)
"""

_DIRECTION = """
    {d}_in_1 = Exp ({d})
    {d}_in = Concat <axis = 1> ({d}_in_1, {d}_in_1)
    {d}_out_1 = Exp (after_{d})
    {d}_out = Concat <axis = 1> ({d}_out_1, {d}_out_1)
    {d}_inner = {compare} (inner, inner_column)
    {d}_outer = {compare} (outer, outer_column)
    {d}_inner_f = Cast <to = 1> ({d}_inner)
    {d}_outer_f = Cast <to = 1> ({d}_outer)
    {d}_x = Mul (x, {d}_in)
    {d}_padded = Pad ({d}_x, pads)
    {d}_chunked = Reshape ({d}_padded, chunked_shape)
    {d}_near = MatMul ({d}_inner_f, {d}_chunked)
    {d}_total = ReduceSum <keepdims = 0> ({d}_chunked, axis_2)
    {d}_far_flat = MatMul ({d}_outer_f, {d}_total)
    {d}_far = Unsqueeze ({d}_far_flat, axis_2)
    {d}_both = Add ({d}_near, {d}_far)
    {d}_flat = Reshape ({d}_both, flat_shape)
    {d}_cut = Slice ({d}_flat, first_0, tokens_1, axis_1)
    {d}_sum = Mul ({d}_cut, {d}_out)
"""

_END = """
    others = Add (rising_sum, falling_sum)
    sums = Add (others, own)
    num, den = Split <axis = 2, num_outputs = 2> (sums)
    ratio = Div (num, den)
    y = CastLike (ratio, k)
}}
"""


def for_openvino(model: ModelProto) -> ModelProto:
    """Return the model without functions, bi-WKV in OpenVINO's cheapest form.

    Only a body of cumulative sums is exchanged: the form that a checkpoint with extreme decays
    gets instead needs its guard against overflow and stays.

    Args:
        model: a file of `rwkv-edge export`; left as it is.
    """
    result = ModelProto()
    result.CopyFrom(model)
    for function in result.functions:
        if function.name == BI_WKV and any(n.op_type == _OPERATOR for n in function.node):
            opset = next(entry.version for entry in function.opset_import if not entry.domain)
            function.CopyFrom(triangular_function(opset))
    inlined: ModelProto = inliner.inline_local_functions(result)
    return inlined


def triangular_function(opset: int) -> onnx.FunctionProto:
    """Return the function, exact where the exported cumulative sums are (|w| T <= 40)."""
    directions = (("rising", "Less"), ("falling", "Greater"))
    body = "".join(_DIRECTION.format(d=name, compare=compare) for name, compare in directions)
    text = _START.format(opset=opset) + body + _END.format()
    function: onnx.FunctionProto = parser.parse_function(text)
    return function
