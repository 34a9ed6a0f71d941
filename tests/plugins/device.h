// What tests of the kernels on a device share: host buffers copied there and back, and a replayed CUDA
// graph.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>

namespace rwkv_edge {

// A host buffer's copy on the device; null stays null.
class Mirror {
 public:
  Mirror(void* host, size_t bytes) : host_(host), bytes_(bytes) {
    if (host_ == nullptr || bytes_ == 0) return;
    if (cudaMalloc(&device_, bytes_) == cudaSuccess) push();
  }
  ~Mirror() { cudaFree(device_); }
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  template <class T>
  operator T*() const {
    return static_cast<T*>(device_);
  }
  void push() const { cudaMemcpy(device_, host_, bytes_, cudaMemcpyHostToDevice); }
  void pull() const {
    if (device_ != nullptr) cudaMemcpy(host_, device_, bytes_, cudaMemcpyDeviceToHost);
  }

 private:
  void* host_;
  size_t bytes_;
  void* device_ = nullptr;
};

template <class T>
void* mutable_pointer(const T* pointer) {
  return const_cast<void*>(static_cast<const void*>(pointer));
}

template <class Launch>
cudaError_t replay(Launch&& launch) {
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
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
