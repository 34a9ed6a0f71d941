// A kernel is a type: a list of phases with a barrier between, what a thread keeps in registers and
// a block in shared memory, and its grid. On the device it is launched; a test loops over it.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "memory.h"

namespace rwkv_edge {

constexpr int kThreads = 256;  // a block

// Blocks of a grid, or the place of one.
struct Grid {
  unsigned x, y, z;
};

WKV_FN unsigned count_blocks(int64_t items, int a_block) {
  return static_cast<unsigned>((items + a_block - 1) / a_block);
}

// Names a kernel's type in a call.
template <class Kernel>
struct Tag {
  using type = Kernel;
};

#ifdef __CUDACC__
template <class Kernel, int kPhase = 0, class Job>
__device__ __forceinline__ void run_phases(const Job& job, typename Kernel::Registers& registers,
                                           typename Kernel::Shared& shared) {
  Kernel::template phase<kPhase>(job, Grid{blockIdx.x, blockIdx.y, blockIdx.z}, threadIdx.x,
                                 registers, shared);
  if constexpr (kPhase + 1 < Kernel::kPhases) {
    __syncthreads();
    run_phases<Kernel, kPhase + 1>(job, registers, shared);
  }
}

template <class Job>
cudaError_t launch(void (*kernel)(Job), const Grid& grid, Job job, cudaStream_t stream) {
  void* arguments[] = {&job};
  // Unlike <<<>>> this returns the error of this very launch and leaves older ones alone.
  return cudaLaunchKernel(kernel, dim3(grid.x, grid.y, grid.z), dim3(kThreads), arguments, 0,
                          stream);
}
#endif

}  // namespace rwkv_edge
