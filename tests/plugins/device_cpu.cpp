// shift_mix_gpu.cu without a device: what it calls of the CUDA runtime works in host memory, and
// the phases stand where the kernel does. Built and called by test_device.py.

#include <cstdlib>
#include <cstring>

#include "../../plugins/shift_mix/shift_mix_tile.h"
#include "phases_cpu.h"
#include "shift_mix_gpu.cu"

namespace {

uintptr_t seen = 0;  // where the last call's map lay
bool goes_astray = false;
ptrdiff_t astray = 0;

}  // namespace

cudaError_t rwkv_edge::shift_mix(const ShiftMixParams& params, cudaStream_t) {
  seen = reinterpret_cast<uintptr_t>(params.x);
  if (goes_astray) static_cast<unsigned char*>(params.y[0])[astray] = 0;
  goes_astray = false;
  return shift_mix_kernel::plan(params, Loop{});
}

extern "C" {

uintptr_t seen_address() { return seen; }
// Has the next call write a byte as well, counted from its first output.
void write_astray(ptrdiff_t byte) {
  astray = byte;
  goes_astray = true;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *memory == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
cudaError_t cudaFree(void* memory) {
  std::free(memory);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* memory, int value, size_t bytes) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

// Work that is recorded is done at once, and not once more when the graph is launched.
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t*, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) { return cudaSuccess; }
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t*) { return cudaSuccess; }
cudaError_t cudaGraphInstantiate(cudaGraphExec_t*, cudaGraph_t, unsigned long long) {
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t) { return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t) { return cudaSuccess; }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
}
