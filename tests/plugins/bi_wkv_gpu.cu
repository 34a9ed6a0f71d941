// The functions of bi_wkv_cpu.cpp with the kernels on the device: host buffers are copied there and
// back. Each call runs twice, plainly and as a replayed CUDA graph; the graph's results are
// returned.

#include "../../plugins/bi_wkv/bi_wkv_kernel.h"
#include "device.h"

namespace {

using namespace rwkv_edge;

template <class Run>
int on_device(const BiWkvParams& host, Run&& run) {
  const bool sane = host.batch >= 0 && host.batch < 1 << 20 && host.tokens >= 0;
  const size_t elements = sane ? host.batch * host.tokens * host.channels : 0;
  const size_t bytes = elements * (host.type == FloatType::kFloat ? 4 : 2);
  const size_t row = sizeof(float) * static_cast<size_t>(host.channels);
  Mirror w(mutable_pointer(host.w), row), u(mutable_pointer(host.u), row);
  Mirror k(mutable_pointer(host.k), bytes), v(mutable_pointer(host.v), bytes), y(host.y, bytes);
  Mirror grad_y(mutable_pointer(host.grad_y), bytes), grad_k(host.grad_k, bytes),
      grad_v(host.grad_v, bytes);
  Mirror grad_w(host.grad_w, row), grad_u(host.grad_u, row);
  Mirror workspace(host.workspace, host.workspace_bytes);

  BiWkvParams params = host;
  params.w = w, params.u = u, params.k = k, params.v = v, params.y = y;
  params.grad_y = grad_y, params.grad_k = grad_k, params.grad_v = grad_v;
  params.grad_w = grad_w, params.grad_u = grad_u, params.workspace = workspace;
  cudaError_t error = run(params, nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  const auto written = {&y, &grad_k, &grad_v, &grad_w, &grad_u, &workspace};
  if (error == cudaSuccess && elements > 0) {
    for (const Mirror* output : written) output->push();
    error = replay([&](cudaStream_t stream) { return run(params, stream); });
  }
  return pull_all(written, error);
}

}  // namespace

extern "C" {

int wkv_forward(const BiWkvParams* params) { return on_device(*params, bi_wkv_forward); }
int wkv_backward(const BiWkvParams* params) { return on_device(*params, bi_wkv_backward); }
size_t wkv_forward_workspace(int64_t b, int64_t t, int64_t c) {
  return bi_wkv_forward_workspace(b, t, c);
}
size_t wkv_backward_workspace(int64_t b, int64_t t, int64_t c) {
  return bi_wkv_backward_workspace(b, t, c);
}
size_t wkv_params_bytes() { return sizeof(BiWkvParams); }
}
