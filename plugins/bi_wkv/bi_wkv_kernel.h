// bi-WKV on CUDA: one parameter struct and the functions that launch it. Needs neither Torch nor
// TensorRT; both bindings are built on this header. The equation and the design: README.md here.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "../common/float_type.h"

namespace rwkv_edge {

// All tensors are contiguous and on the device. (B, T, C) is batch, tokens, channels.
struct BiWkvParams {
  int64_t batch = 0;
  int64_t tokens = 0;
  int64_t channels = 0;
  // Of k, v, y and their gradients. Everything else is float32, the scan's state included.
  FloatType type = FloatType::kFloat;

  const float* w = nullptr;  // (C), the decay a token, of either sign
  const float* u = nullptr;  // (C), the bonus of a token for itself
  const void* k = nullptr;   // (B, T, C)
  const void* v = nullptr;   // (B, T, C)
  void* y = nullptr;         // (B, T, C), what the forward writes; the backward does without

  // Of the backward alone, which writes all but the first.
  const void* grad_y = nullptr;  // (B, T, C)
  void* grad_k = nullptr;        // (B, T, C)
  void* grad_v = nullptr;        // (B, T, C)
  float* grad_w = nullptr;       // (C)
  float* grad_u = nullptr;       // (C)

  void* workspace = nullptr;  // scratch; may be null where the functions below ask for no bytes
  size_t workspace_bytes = 0;
};

// The scratch that a call of these sizes may need. Monotone in every argument.
size_t bi_wkv_forward_workspace(int64_t batch, int64_t tokens, int64_t channels);
size_t bi_wkv_backward_workspace(int64_t batch, int64_t tokens, int64_t channels);

// Queue the work on `stream`. No allocation, no synchronisation, safe to capture in a CUDA graph.
// cudaErrorInvalidValue where the parameters do not fit (a batch above 65535, a null pointer, too
// little workspace), else what the launch returned.
cudaError_t bi_wkv_forward(const BiWkvParams& params, cudaStream_t stream);
cudaError_t bi_wkv_backward(const BiWkvParams& params, cudaStream_t stream);

}  // namespace rwkv_edge
