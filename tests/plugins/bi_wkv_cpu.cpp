// The kernels of plugins/bi_wkv on the CPU, in the order in which the launcher would queue them.
// Built and called by test_bi_wkv_phases.py.

#define WKV_MOST_ROWS 5  // so that long sequences take several launches here too
#include "../../plugins/bi_wkv/bi_wkv_plan.h"
#include "phases_cpu.h"

using namespace rwkv_edge;

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
