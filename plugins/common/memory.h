// Words of memory, and numbers of 16 bits in float32 registers, for every kernel here.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

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

template <class To, class From>
WKV_FN To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "another size");
  To to;
  memcpy(static_cast<void*>(&to), &from, sizeof to);
  return to;
}

// V neighbouring elements are one word in memory, and float32 in registers.
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
