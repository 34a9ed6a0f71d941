// Numbers for the scan: sums with a power of two beside them, so that no key is too large, no decay
// too strong, and changing the scale costs integer shifts instead of exponentials.
#pragma once

#include <cmath>

#include "../common/memory.h"

namespace rwkv_edge {

constexpr float kLog2E = 1.4426950408889634f;
constexpr float kEmptyScale = -1e30f;  // of a sum over nothing: below all others, whatever is added

// The three functions that run on the special-function unit. Each is one MUFU instruction.
WKV_FN float fast_exp2(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::exp2(x);
#endif
}

WKV_FN float fast_log2(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return std::log2(x);
#endif
}

WKV_FN float fast_reciprocal(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

// 2^n for an integral n <= 127, and 0 below the normal numbers. Adding 1.5 * 2^23 leaves the
// integer in the low bits of the sum; shifted up by 23 it is the exponent of the result. No
// exponential.
WKV_FN float pow2(float n) {
  return same_bits<float>(same_bits<uint32_t>(fmaxf(n, -127.0f) + (12582912.0f + 127.0f)) << 23);
}

// 2^(x * factor) as mantissa * 2^exponent, the mantissa in [0.7, 1.5]: there is no range to leave.
// Beyond 2^(+-2^20) the number might as well be that.
struct Power {
  float mantissa;
  float exponent;
};

WKV_FN Power split_power(float x, float factor) {
  constexpr float kMost = 1048576.0f;
  const float exponent = fminf(fmaxf(rintf(x * factor), -kMost), kMost);
  // One rounding only: the fused product is exact, so a large x costs no accuracy.
  const float rest = fmaf(x, factor, -exponent);
  return {fabsf(rest) > 1.0f ? 1.0f : fast_exp2(rest), exponent};
}

// Sums over tokens, times 2^scale. The first two are the sums of `a` and `b` over the tokens, each
// decayed by its distance: numerator and denominator in the forward. With N = 4 the other two are
// the same with every term times its distance, which is what the derivative by w needs.
template <int N>
struct State {
  float sum[N];
  float scale;
};

template <int N>
WKV_FN State<N> empty_state() {
  State<N> state;
  WKV_UNROLL
  for (int i = 0; i < N; ++i) state.sum[i] = 0.0f;
  state.scale = kEmptyScale;
  return state;
}

// `far` moves on by `tokens` tokens, over which it decays, and is added to `near`.
template <int N>
WKV_FN State<N> append(const State<N>& far, const Power& decay, float tokens,
                       const State<N>& near) {
  const float far_scale = far.scale + decay.exponent;
  State<N> out;
  out.scale = fmaxf(far_scale, near.scale);
  const float f = decay.mantissa * pow2(far_scale - out.scale);
  const float n = pow2(near.scale - out.scale);
  WKV_UNROLL
  for (int i = 0; i < N; ++i) {
    const float moved = i < 2 ? far.sum[i] : fmaf(tokens, far.sum[i - 2], far.sum[i]);
    out.sum[i] = fmaf(moved, f, near.sum[i] * n);
  }
  return out;
}

// Bring the sums back to about one. Mantissas drift by half a power of two an append, so this is
// needed once a block of tokens and not in between.
template <int N>
WKV_FN State<N> renormalise(State<N> state) {
  float largest = 0.0f;
  WKV_UNROLL
  for (int i = 0; i < N; ++i) largest = fmaxf(largest, fabsf(state.sum[i]));
  if (!(largest > 0.0f && largest < 1e38f)) return state;
  const float exponent = static_cast<float>(same_bits<uint32_t>(largest) >> 23) - 127.0f;
  WKV_UNROLL
  for (int i = 0; i < N; ++i) state.sum[i] *= pow2(-exponent);
  state.scale += exponent;
  return state;
}

}  // namespace rwkv_edge
