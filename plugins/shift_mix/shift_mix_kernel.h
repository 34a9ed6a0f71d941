// ShiftMix on CUDA: one parameter struct and the function that launches it. Needs neither Torch nor
// TensorRT. The definition and the design: README.md here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "../common/float_type.h"

namespace rwkv_edge {

constexpr int kMostMixes = 3;

// All tensors are contiguous, on the device and of one type.
struct ShiftMixParams {
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;
  int32_t mixes = 0;  // 2 or 3
  FloatType type = FloatType::kFloat;

  const void* x = nullptr;                 // (B, C, H, W)
  const void* weight[kMostMixes] = {};     // of each mix: (C, 1, 3, 3), two taps of which are read
  void* y[kMostMixes] = {};                // of each mix: (B, H, W, C)
};

// Queues the work on `stream`: one launch, no workspace, safe to capture in a CUDA graph.
// cudaErrorInvalidValue where the parameters do not fit (a batch above 65535, a map of 2^31 pixels,
// a null pointer), else what the launch returned.
cudaError_t shift_mix(const ShiftMixParams& params, cudaStream_t stream);

}  // namespace rwkv_edge
