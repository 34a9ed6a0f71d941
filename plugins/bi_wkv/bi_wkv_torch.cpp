// The Torch binding: two operators on CUDA tensors over bi_wkv_kernel.h. Their gradients are
// joined, and CPU tensors served, in rwkv_edge/ops.
//
//   rwkv_edge::bi_wkv_cuda(w, u, k, v) -> y
//   rwkv_edge::bi_wkv_cuda_backward(w, u, k, v, grad_y) -> (grad_w, grad_u, grad_k, grad_v)

#include <ATen/ATen.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <torch/library.h>

#include <tuple>

#include "bi_wkv_kernel.h"

namespace rwkv_edge {
namespace {

FloatType kernel_type(const at::Tensor& k) {
  switch (k.scalar_type()) {
    case at::kFloat:
      return FloatType::kFloat;
    case at::kHalf:
      return FloatType::kHalf;
    case at::kBFloat16:
      return FloatType::kBFloat16;
    default:
      TORCH_CHECK(false, "bi_wkv: k must be float32, float16 or bfloat16, not ", k.scalar_type());
  }
}

void check_like(const at::Tensor& x, const at::Tensor& like, const char* name) {
  TORCH_CHECK(x.device() == like.device(), "bi_wkv: ", name, " must be on the device of k");
  TORCH_CHECK(x.sizes() == like.sizes() && x.scalar_type() == like.scalar_type(), "bi_wkv: ", name,
              " must have the shape and type of k");
}

void check_row(const at::Tensor& x, const at::Tensor& k, const char* name) {
  TORCH_CHECK(x.device() == k.device(), "bi_wkv: ", name, " must be on the device of k");
  TORCH_CHECK(x.scalar_type() == at::kFloat, "bi_wkv: ", name, " must be float32");
  TORCH_CHECK(x.dim() == 1 && x.size(0) == k.size(2), "bi_wkv: ", name, " must be (C)");
}

// The inputs, contiguous, which lives as long as the pointers taken from it.
struct Inputs {
  at::Tensor w, u, k, v;

  Inputs(const at::Tensor& w_in, const at::Tensor& u_in, const at::Tensor& k_in,
         const at::Tensor& v_in) {
    TORCH_CHECK(k_in.is_cuda() && k_in.dim() == 3, "bi_wkv: k must be (B, T, C) on a CUDA device");
    check_like(v_in, k_in, "v");
    check_row(w_in, k_in, "w");
    check_row(u_in, k_in, "u");
    w = w_in.contiguous(), u = u_in.contiguous(), k = k_in.contiguous(), v = v_in.contiguous();
  }

  BiWkvParams params() const {
    BiWkvParams p;
    p.batch = k.size(0), p.tokens = k.size(1), p.channels = k.size(2);
    p.type = kernel_type(k);
    p.w = w.const_data_ptr<float>(), p.u = u.const_data_ptr<float>();
    p.k = k.const_data_ptr(), p.v = v.const_data_ptr();
    return p;
  }
};

// Torch's allocator hands out the workspace on the current stream, so it may go when the call ends.
at::Tensor give_workspace(BiWkvParams& p, const at::Tensor& k, size_t bytes) {
  at::Tensor workspace = at::empty({static_cast<int64_t>(bytes)}, k.options().dtype(at::kByte));
  p.workspace = bytes > 0 ? workspace.data_ptr() : nullptr;
  p.workspace_bytes = bytes;
  return workspace;
}

void check(cudaError_t error) {
  TORCH_CHECK(error == cudaSuccess, "bi_wkv: ", cudaGetErrorString(error));
}

at::Tensor forward(const at::Tensor& w, const at::Tensor& u, const at::Tensor& k,
                   const at::Tensor& v) {
  const Inputs inputs(w, u, k, v);
  const c10::cuda::CUDAGuard guard(k.device());
  at::Tensor y = at::empty_like(inputs.k);
  BiWkvParams p = inputs.params();
  p.y = y.data_ptr();
  const at::Tensor workspace =
      give_workspace(p, inputs.k, bi_wkv_forward_workspace(p.batch, p.tokens, p.channels));
  check(bi_wkv_forward(p, c10::cuda::getCurrentCUDAStream().stream()));
  return y;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> backward(const at::Tensor& w,
                                                                    const at::Tensor& u,
                                                                    const at::Tensor& k,
                                                                    const at::Tensor& v,
                                                                    const at::Tensor& grad_y_in) {
  const Inputs inputs(w, u, k, v);
  const c10::cuda::CUDAGuard guard(k.device());
  check_like(grad_y_in, k, "grad_y");
  const at::Tensor grad_y = grad_y_in.contiguous();
  at::Tensor grad_w = at::empty_like(inputs.w), grad_u = at::empty_like(inputs.u);
  at::Tensor grad_k = at::empty_like(inputs.k), grad_v = at::empty_like(inputs.v);
  BiWkvParams p = inputs.params();
  p.grad_y = grad_y.const_data_ptr();
  p.grad_w = grad_w.data_ptr<float>(), p.grad_u = grad_u.data_ptr<float>();
  p.grad_k = grad_k.data_ptr(), p.grad_v = grad_v.data_ptr();
  const at::Tensor workspace =
      give_workspace(p, inputs.k, bi_wkv_backward_workspace(p.batch, p.tokens, p.channels));
  check(bi_wkv_backward(p, c10::cuda::getCurrentCUDAStream().stream()));
  return {grad_w, grad_u, grad_k, grad_v};
}

}  // namespace
}  // namespace rwkv_edge

TORCH_LIBRARY_FRAGMENT(rwkv_edge, library) {
  library.def("bi_wkv_cuda(Tensor w, Tensor u, Tensor k, Tensor v) -> Tensor");
  library.def(
      "bi_wkv_cuda_backward(Tensor w, Tensor u, Tensor k, Tensor v, Tensor grad_y) -> "
      "(Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(rwkv_edge, CUDA, library) {
  library.impl("bi_wkv_cuda", &rwkv_edge::forward);
  library.impl("bi_wkv_cuda_backward", &rwkv_edge::backward);
}
