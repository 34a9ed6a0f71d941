// The launchers: every kernel type of bi_wkv_plan.h as a CUDA kernel. Its phases, a barrier
// between.

#include "bi_wkv_kernel.h"
#include "bi_wkv_plan.h"

namespace rwkv_edge {
namespace {

template <class Kernel>
__global__ void __launch_bounds__(kThreads) bi_wkv(const Job job) {
  __shared__ typename Kernel::Shared shared;
  typename Kernel::Registers registers;
  run_phases<Kernel>(job, registers, shared);
}

// Queues kernels on a stream.
struct Launcher {
  cudaStream_t stream;

  template <class Kernel>
  cudaError_t operator()(Tag<Kernel>, const Job& job) const {
    return launch(bi_wkv<Kernel>, Kernel::grid(job), job, stream);
  }
};

}  // namespace

size_t bi_wkv_forward_workspace(int64_t batch, int64_t tokens, int64_t channels) {
  return sizes_fit(batch, tokens, channels) ? Layout::forward(batch, tokens, channels).bytes() : 0;
}

size_t bi_wkv_backward_workspace(int64_t batch, int64_t tokens, int64_t channels) {
  return sizes_fit(batch, tokens, channels) ? Layout::backward(batch, tokens, channels).bytes() : 0;
}

cudaError_t bi_wkv_forward(const BiWkvParams& params, cudaStream_t stream) {
  return plan_forward(params, Launcher{stream});
}

cudaError_t bi_wkv_backward(const BiWkvParams& params, cudaStream_t stream) {
  return plan_backward(params, Launcher{stream});
}

}  // namespace rwkv_edge
