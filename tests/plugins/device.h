// What tests of the kernels on a device share: host buffers copied there and back, and a replayed CUDA
// graph.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace rwkv_edge {

// A host buffer's copy on the device, aligned as the host's is and with guards around it; null
// stays null. With TIGHT_BUFFERS in the environment there are none: compute-sanitizer finds what
// reads behind memory, but not what reads a guard.
class Mirror {
 public:
  Mirror(void* host, size_t bytes)
      : host_(host),
        bytes_(bytes),
        guard_(std::getenv("TIGHT_BUFFERS") == nullptr ? 256 : 0),
        start_(guard_ + reinterpret_cast<uintptr_t>(host) % kAlignment) {
    if (host_ == nullptr || bytes_ == 0) return;
    if (cudaMalloc(&memory_, size()) != cudaSuccess) return;
    cudaMemset(memory_, kPattern, size());
    push();
  }
  ~Mirror() { cudaFree(memory_); }
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  template <class T>
  operator T*() const {
    return static_cast<T*>(data());
  }
  void push() const {
    if (memory_ != nullptr) cudaMemcpy(data(), host_, bytes_, cudaMemcpyHostToDevice);
  }
  // cudaErrorIllegalAddress where a guard was written.
  cudaError_t pull() const {
    if (memory_ == nullptr) return cudaSuccess;
    std::vector<unsigned char> all(size());
    const cudaError_t error = cudaMemcpy(all.data(), memory_, size(), cudaMemcpyDeviceToHost);
    if (error != cudaSuccess) return error;
    const auto data = all.begin() + start_, behind = data + bytes_;
    std::memcpy(host_, &*data, bytes_);
    const auto whole = [](unsigned char byte) { return byte == kPattern; };
    if (!std::all_of(all.begin(), data, whole)) return cudaErrorIllegalAddress;
    return std::all_of(behind, all.end(), whole) ? cudaSuccess : cudaErrorIllegalAddress;
  }

 private:
  static constexpr size_t kAlignment = 16;         // the widest access
  static constexpr unsigned char kPattern = 0xff;  // not a number in any type

  size_t size() const { return start_ + bytes_ + guard_; }
  void* data() const {
    return memory_ == nullptr ? nullptr : static_cast<unsigned char*>(memory_) + start_;
  }

  void* host_;
  size_t bytes_, guard_, start_;
  void* memory_ = nullptr;
};

// Copies all of them back; an error of the calls before stays.
template <class Mirrors>
cudaError_t pull_all(const Mirrors& mirrors, cudaError_t error) {
  for (const auto& mirror : mirrors) {
    const cudaError_t pulled = mirror->pull();
    if (error == cudaSuccess) error = pulled;
  }
  return error;
}

template <class T>
void* mutable_pointer(const T* pointer) {
  return const_cast<void*>(static_cast<const void*>(pointer));
}

template <class Launch>
cudaError_t replay(Launch&& launch) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  // what was copied before may still be on its way, and this stream waits for no other
  cudaError_t error = cudaDeviceSynchronize();
  if (error == cudaSuccess) error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  if (error == cudaSuccess) error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal);
  if (error == cudaSuccess) {
    error = launch(stream);
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
    if (error == cudaSuccess) error = ended;
  }
  if (error == cudaSuccess) error = cudaGraphInstantiate(&executable, graph, 0);
  if (error == cudaSuccess) error = cudaGraphLaunch(executable, stream);
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream);
  if (executable != nullptr) cudaGraphExecDestroy(executable);
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (stream != nullptr) cudaStreamDestroy(stream);
  return error;
}

}  // namespace rwkv_edge
