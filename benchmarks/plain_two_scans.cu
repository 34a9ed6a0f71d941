// The yardstick: bi-WKV as one writes it down first. A thread a channel, one scan from either end,
// each sum with its running maximum. (B, T, C) row-major; `left` holds a Sum a token and channel.
#include <cuda_fp16.h>

#include <cstdint>

struct Sum {
  float top, num, den;
};

__device__ void push(Sum& s, float decay, float key, float value) {
  const float top = fmaxf(s.top - decay, key);
  const float a = __expf(s.top - decay - top), b = __expf(key - top);
  s = {top, s.num * a + value * b, s.den * a + b};
}

template <class Type>
__global__ void plain_two_scans(int T, int C, const float* w, const float* u, const Type* k,
                                const Type* v, Type* y, Sum* left) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c >= C) return;
  const int64_t sample = int64_t{blockIdx.y} * T * C;
  k += sample, v += sample, y += sample, left += sample;
  Sum sum = {-1e30f, 0, 0};
#pragma unroll 1
  for (int t = 0; t < T; ++t) {
    left[t * C + c] = sum;
    push(sum, w[c], float(k[t * C + c]), float(v[t * C + c]));
  }
  sum = {-1e30f, 0, 0};
#pragma unroll 1
  for (int t = T - 1; t >= 0; --t) {
    const Sum l = left[t * C + c];
    const float key = k[t * C + c], value = v[t * C + c];
    const float top = fmaxf(fmaxf(l.top, sum.top), u[c] + key);
    const float a = __expf(l.top - top), b = __expf(sum.top - top), e = __expf(u[c] + key - top);
    y[t * C + c] = Type((l.num * a + sum.num * b + value * e) / (l.den * a + sum.den * b + e));
    push(sum, w[c], key, value);
  }
}

template <class Type>
static int launch(int B, int T, int C, const float* w, const float* u, const void* k, const void* v,
                  void* y, void* left, void* stream) {
  constexpr int kThreads = 64;  // small blocks reach more SMs
  const dim3 grid((C + kThreads - 1) / kThreads, B);
  plain_two_scans<Type><<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(
      T, C, w, u, static_cast<const Type*>(k), static_cast<const Type*>(v), static_cast<Type*>(y),
      static_cast<Sum*>(left));
  return cudaGetLastError();
}

extern "C" int plain_fp32(int B, int T, int C, const float* w, const float* u, const void* k,
                          const void* v, void* y, void* left, void* stream) {
  return launch<float>(B, T, C, w, u, k, v, y, left, stream);
}
extern "C" int plain_fp16(int B, int T, int C, const float* w, const float* u, const void* k,
                          const void* v, void* y, void* left, void* stream) {
  return launch<__half>(B, T, C, w, u, k, v, y, left, stream);
}
