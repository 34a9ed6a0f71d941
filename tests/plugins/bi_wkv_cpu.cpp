// The kernels of plugins/bi_wkv on the CPU: the same phases, block by block and thread by thread,
// in the order in which the launcher would queue them. Built and called by test_bi_wkv_phases.py.

#include <memory>

#define WKV_MOST_ROWS 5  // so that long sequences take several launches here too
#include "bi_wkv_plan.h"

namespace {

using namespace rwkv_edge;

template <class Kernel>
struct Block {
  typename Kernel::Registers registers[kThreads];
  typename Kernel::Shared shared;
};

// One phase of every thread, then the next: what a barrier means. Every other block takes its
// threads backwards, since within a phase their order must not matter.
template <class Kernel, int kPhase>
void run_phases(const Job& job, const Grid& at, Block<Kernel>& block) {
  for (int i = 0; i < kThreads; ++i) {
    const int thread = (at.x + at.y) % 2 == 0 ? i : kThreads - 1 - i;
    Kernel::template phase<kPhase>(job, at, thread, block.registers[thread], block.shared);
  }
  if constexpr (kPhase + 1 < Kernel::kPhases) run_phases<Kernel, kPhase + 1>(job, at, block);
}

struct Loop {
  template <class Kernel>
  cudaError_t operator()(Tag<Kernel>, const Job& job) const {
    const auto block = std::make_unique<Block<Kernel>>();
    const Grid grid = Kernel::grid(job);
    for (Grid at = {0, 0, 0}; at.z < grid.z; ++at.z)
      for (at.y = 0; at.y < grid.y; ++at.y)
        for (at.x = 0; at.x < grid.x; ++at.x) {
          // What a GPU's shared memory and registers hold at the start is anybody's guess.
          std::memset(static_cast<void*>(block.get()), 0xff, sizeof *block);
          run_phases<Kernel, 0>(job, at, *block);
        }
    return cudaSuccess;
  }
};

}  // namespace

extern "C" {

int wkv_forward(const BiWkvParams* params) { return plan_forward(*params, Loop{}); }
int wkv_backward(const BiWkvParams* params) { return plan_backward(*params, Loop{}); }
size_t wkv_forward_workspace(int64_t b, int64_t t, int64_t c) {
  return Layout::forward(b, t, c).bytes();
}
size_t wkv_backward_workspace(int64_t b, int64_t t, int64_t c) {
  return Layout::backward(b, t, c).bytes();
}
size_t wkv_params_bytes() { return sizeof(BiWkvParams); }
}
