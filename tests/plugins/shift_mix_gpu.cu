// The functions of shift_mix_cpu.cpp with the kernels on the device: host buffers are copied there
// and back. Each call runs twice, plainly and as a replayed CUDA graph; the graph's results are
// returned.

#include <memory>

#include "../../plugins/shift_mix/shift_mix_kernel.h"
#include "device.h"

using namespace rwkv_edge;

extern "C" {

int run_shift_mix(const ShiftMixParams* host) {
  const bool sane = host->batch >= 0 && host->batch <= 65535 && host->channels >= 0 &&
                    host->height >= 0 && host->height < 1 << 20 && host->width >= 0;
  const size_t elements =
      sane ? host->batch * host->channels * host->height * host->width : 0;
  const size_t size = size_of(host->type);
  const size_t weights = sane ? host->channels * 9 * size : 0;
  Mirror x(mutable_pointer(host->x), elements * size);
  std::unique_ptr<Mirror> weight[kMostMixes], y[kMostMixes];
  ShiftMixParams params = *host;
  params.x = x;
  for (int n = 0; n < kMostMixes; ++n) {
    weight[n] = std::make_unique<Mirror>(mutable_pointer(host->weight[n]), weights);
    y[n] = std::make_unique<Mirror>(host->y[n], elements * size);
    params.weight[n] = *weight[n];
    params.y[n] = *y[n];
  }
  cudaError_t error = shift_mix(params, nullptr);
  if (error == cudaSuccess) error = cudaDeviceSynchronize();
  if (error == cudaSuccess && elements > 0) {
    for (const auto& output : y) output->push();
    error = replay([&](cudaStream_t stream) { return shift_mix(params, stream); });
  }
  return pull_all(y, error);
}

size_t shift_mix_params_bytes() { return sizeof(ShiftMixParams); }
}
