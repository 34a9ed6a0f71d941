// The launcher: every kernel type of shift_mix_tile.h as a CUDA kernel.

#include "shift_mix_kernel.h"

#include "shift_mix_tile.h"

namespace rwkv_edge {
namespace {

template <class Kernel>
__global__ void __launch_bounds__(kThreads) shift_mix(const shift_mix_kernel::Job job) {
  __shared__ typename Kernel::Shared shared;
  typename Kernel::Registers registers;
  run_phases<Kernel>(job, registers, shared);
}

struct Launcher {
  cudaStream_t stream;

  template <class Kernel>
  cudaError_t operator()(Tag<Kernel>, const shift_mix_kernel::Job& job) const {
    return launch(shift_mix<Kernel>, Kernel::grid(job), job, stream);
  }
};

}  // namespace

cudaError_t shift_mix(const ShiftMixParams& params, cudaStream_t stream) {
  return shift_mix_kernel::plan(params, Launcher{stream});
}

}  // namespace rwkv_edge
