// The kernels of plugins/shift_mix on the CPU. Built and called by test_shift_mix_phases.py.

#include "../../plugins/shift_mix/shift_mix_tile.h"
#include "phases_cpu.h"

using namespace rwkv_edge;

extern "C" {

int run_shift_mix(const ShiftMixParams* params) { return shift_mix_kernel::plan(*params, Loop{}); }
size_t shift_mix_params_bytes() { return sizeof(ShiftMixParams); }
}
