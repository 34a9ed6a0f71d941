// Runs a kernel of plugins/ on the CPU: the same phases, block by block and thread by thread.
#pragma once

#include <cstring>
#include <memory>

#include "../../plugins/common/launch.h"

namespace rwkv_edge {

template <class Kernel>
struct Block {
  typename Kernel::Registers registers[kThreads];
  typename Kernel::Shared shared;
};

// One phase of every thread, then the next: what a barrier means. Every other block takes its
// threads backwards, since within a phase their order must not matter.
template <class Kernel, int kPhase = 0, class Job>
void loop_phases(const Job& job, const Grid& at, Block<Kernel>& block) {
  for (int i = 0; i < kThreads; ++i) {
    const int thread = (at.x + at.y) % 2 == 0 ? i : kThreads - 1 - i;
    Kernel::template phase<kPhase>(job, at, thread, block.registers[thread], block.shared);
  }
  if constexpr (kPhase + 1 < Kernel::kPhases) loop_phases<Kernel, kPhase + 1>(job, at, block);
}

// Stands where the launcher does.
struct Loop {
  template <class Kernel, class Job>
  cudaError_t operator()(Tag<Kernel>, const Job& job) const {
    const auto block = std::make_unique<Block<Kernel>>();
    const Grid grid = Kernel::grid(job);
    for (Grid at = {0, 0, 0}; at.z < grid.z; ++at.z)
      for (at.y = 0; at.y < grid.y; ++at.y)
        for (at.x = 0; at.x < grid.x; ++at.x) {
          // What a GPU's shared memory and registers hold at the start is anybody's guess.
          std::memset(static_cast<void*>(block.get()), 0xff, sizeof *block);
          loop_phases<Kernel>(job, at, *block);
        }
    return cudaSuccess;
  }
};

}  // namespace rwkv_edge
