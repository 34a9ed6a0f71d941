// Numbers for the scan: sums with a power of two beside them, so that no key is too large, no decay
// too strong, and changing the scale costs integer shifts instead of exponentials.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define WKV_FN __host__ __device__ __forceinline__
#else
#define WKV_FN inline
#endif

// Loops over registers must vanish, and loops of the rare path must not grow. On the device only:
// the host's compiler warns of pragmas that it does not know.
#ifdef __CUDA_ARCH__
#define WKV_UNROLL _Pragma("unroll")
#define WKV_ROLLED _Pragma("unroll 1")
#else
#define WKV_UNROLL
#define WKV_ROLLED
#endif

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

template <class To, class From>
WKV_FN To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "another size");
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof to);
  return to;
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

// Memory: V neighbouring channels are one word, and float32 in registers.
template <int kBytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <class T, int V>
using Word = typename WordOf<sizeof(T) * V>::type;

template <class T, int V>
WKV_FN Word<T, V> load(const T* from) {
  return *reinterpret_cast<const Word<T, V>*>(from);
}
template <class T, int V>
WKV_FN void store(T* to, const Word<T, V>& word) {
  *reinterpret_cast<Word<T, V>*>(to) = word;
}

// To and from a word, and of a single number. The first argument only names the type.
WKV_FN float to_float(float x) { return x; }
WKV_FN float to_float(__half x) { return __half2float(x); }
WKV_FN float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }

WKV_FN void from_float(float x, float* out) { *out = x; }
WKV_FN void from_float(float x, __half* out) { *out = __float2half_rn(x); }
WKV_FN void from_float(float x, __nv_bfloat16* out) { *out = __float2bfloat16_rn(x); }

WKV_FN void unpack(const float*, uint32_t word, float (&out)[1]) {
  out[0] = same_bits<float>(word);
}
WKV_FN void unpack(const float*, uint2 word, float (&out)[2]) {
  out[0] = same_bits<float>(word.x), out[1] = same_bits<float>(word.y);
}
template <class T>
WKV_FN void unpack(const T*, uint16_t word, float (&out)[1]) {
  out[0] = to_float(same_bits<T>(word));
}
WKV_FN void unpack(const __half*, uint32_t word, float (&out)[2]) {
  const __half2 both = same_bits<__half2>(word);
  out[0] = __low2float(both), out[1] = __high2float(both);
}
WKV_FN void unpack(const __nv_bfloat16*, uint32_t word, float (&out)[2]) {
  out[0] = same_bits<float>(word << 16), out[1] = same_bits<float>(word & 0xffff0000u);
}

WKV_FN void pack(const float (&in)[1], const float*, uint32_t* word) {
  *word = same_bits<uint32_t>(in[0]);
}
WKV_FN void pack(const float (&in)[2], const float*, uint2* word) {
  word->x = same_bits<uint32_t>(in[0]), word->y = same_bits<uint32_t>(in[1]);
}
template <class T>
WKV_FN void pack(const float (&in)[1], const T*, uint16_t* word) {
  T x;
  from_float(in[0], &x);
  *word = same_bits<uint16_t>(x);
}
WKV_FN void pack(const float (&in)[2], const __half*, uint32_t* word) {
  *word = same_bits<uint32_t>(__floats2half2_rn(in[0], in[1]));
}
WKV_FN void pack(const float (&in)[2], const __nv_bfloat16*, uint32_t* word) {
  *word = same_bits<uint32_t>(__floats2bfloat162_rn(in[0], in[1]));
}

template <class T, int V>
WKV_FN Word<T, V> pack_all(float x) {
  float in[V];
  WKV_UNROLL
  for (int i = 0; i < V; ++i) in[i] = x;
  Word<T, V> word;
  pack(in, static_cast<const T*>(nullptr), &word);
  return word;
}

}  // namespace rwkv_edge
