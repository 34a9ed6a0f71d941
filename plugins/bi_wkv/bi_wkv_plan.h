// Which kernels a call takes, and in which order. `run` gets a kernel type, as a tag, and the job:
// on the device it launches, in a test it loops over blocks and threads.
#pragma once

#include "bi_wkv_backward.h"
#include "bi_wkv_forward.h"

namespace rwkv_edge {

// Up to this many blocks, each block adds up what enters it; beyond, CarryScan does it for all.
constexpr int kMostBlocksToWalk = 16;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What a grid, and 32-bit steps between the tokens of a block, can take.
inline bool sizes_fit(int64_t batch, int64_t tokens, int64_t channels) {
  if (batch < 0 || tokens < 0 || channels < 0) return false;
  return batch <= 65535 && channels <= (1 << 22) && tokens <= (int64_t{1} << 36);
}

// The parts of the workspace, counted in floats for the smaller blocks, of which there are more.
struct Layout {
  int64_t sums = 0, partials = 0, exact = 0;

  static Layout forward(int64_t batch, int64_t tokens, int64_t channels) {
    const int64_t blocks = ceil_divide(tokens, Geometry<1>::kTokens);
    Layout layout;
    if (blocks > 1) layout.sums = (2 + 1) * 2 * batch * blocks * channels;
    return layout;
  }
  static Layout backward(int64_t batch, int64_t tokens, int64_t channels) {
    const int64_t blocks = ceil_divide(tokens, Geometry<1>::kTokens);
    Layout layout;
    if (blocks > 1) layout.sums = (4 + 1) * 2 * batch * blocks * channels;
    layout.partials = 2 * batch * blocks * channels;
    layout.exact = batch * tokens * channels;
    return layout;
  }
  size_t bytes() const { return sizeof(float) * static_cast<size_t>(sums + partials + 2 * exact); }
};

template <int V>
Job make_job(const BiWkvParams& p, const Layout& layout) {
  Job job = {};
  job.p = p;
  job.blocks = ceil_divide(p.tokens, Geometry<V>::kTokens);
  job.carried = job.blocks > kMostBlocksToWalk;
  if (p.workspace == nullptr) return job;
  job.sums = static_cast<float*>(p.workspace);
  job.partials = job.sums + layout.sums;
  job.y = job.partials + layout.partials;
  job.log2_denominator = job.y + layout.exact;
  return job;
}

// A kernel that works on tiles, as often as one grid cannot hold them all.
template <class Kernel, class Run>
cudaError_t run_tiles(Job job, Run&& run) {
  cudaError_t error = cudaSuccess;
  while (job.first_block < job.blocks && error == cudaSuccess) {
    error = run(Tag<Kernel>{}, job);
    job.first_block += tiles(job).y;
  }
  return error;
}

// The kernels of one forward, then those of one backward.
template <class T, int V, bool kExact, class Run>
cudaError_t queue_forward(const Job& job, Run&& run) {
  cudaError_t error = cudaSuccess;
  if (job.blocks > 1) error = run_tiles<ForwardSum<T, V>>(job, run);
  if (job.carried && error == cudaSuccess) error = run(Tag<CarryScan<V, 2>>{}, job);
  if (error == cudaSuccess) error = run_tiles<ForwardEmit<T, V, kExact>>(job, run);
  return error;
}

template <class T, class Run>
cudaError_t queue_backward(const Job& job, Run&& run) {
  cudaError_t error = cudaSuccess;
  if (job.p.batch > 0 && job.blocks > 0) {
    error = queue_forward<T, 1, true>(job, run);
    if (job.blocks > 1 && error == cudaSuccess) error = run_tiles<BackwardSum<T>>(job, run);
    if (job.carried && error == cudaSuccess) error = run(Tag<CarryScan<1, 4>>{}, job);
    if (error == cudaSuccess) error = run_tiles<BackwardEmit<T>>(job, run);
  }
  if (error == cudaSuccess) error = run(Tag<BackwardReduce>{}, job);
  return error;
}

// Two channels an access need an even channel count and pointers to match.
inline bool pairs_fit(const BiWkvParams& p) {
  const auto aligned = [&](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % (2 * size_of(p.type)) == 0;
  };
  return p.channels % 2 == 0 && aligned(p.k) && aligned(p.v) && aligned(p.y);
}

template <class T, class Run>
cudaError_t forward_as(const BiWkvParams& p, const Layout& layout, Run&& run) {
  return pairs_fit(p) ? queue_forward<T, 2, false>(make_job<2>(p, layout), run)
                      : queue_forward<T, 1, false>(make_job<1>(p, layout), run);
}

template <class Run>
cudaError_t plan_forward(const BiWkvParams& p, Run&& run) {
  if (!sizes_fit(p.batch, p.tokens, p.channels)) return cudaErrorInvalidValue;
  if (p.batch == 0 || p.tokens == 0 || p.channels == 0) return cudaSuccess;
  const Layout layout = Layout::forward(p.batch, p.tokens, p.channels);
  const bool enough = layout.bytes() == 0 || (p.workspace && p.workspace_bytes >= layout.bytes());
  if (!p.w || !p.u || !p.k || !p.v || !p.y || !enough) return cudaErrorInvalidValue;
  switch (p.type) {
    case FloatType::kFloat:
      return forward_as<float>(p, layout, run);
    case FloatType::kHalf:
      return forward_as<__half>(p, layout, run);
    case FloatType::kBFloat16:
      return forward_as<__nv_bfloat16>(p, layout, run);
  }
  return cudaErrorInvalidValue;
}

template <class Run>
cudaError_t plan_backward(const BiWkvParams& p, Run&& run) {
  if (!sizes_fit(p.batch, p.tokens, p.channels)) return cudaErrorInvalidValue;
  if (p.channels == 0) return cudaSuccess;
  const Layout layout = Layout::backward(p.batch, p.tokens, p.channels);
  if (!p.grad_w || !p.grad_u) return cudaErrorInvalidValue;
  if (layout.bytes() > 0) {
    if (!p.w || !p.u || !p.k || !p.v || !p.grad_y) return cudaErrorInvalidValue;
    if (!p.grad_k || !p.grad_v) return cudaErrorInvalidValue;
    if (!p.workspace || p.workspace_bytes < layout.bytes()) return cudaErrorInvalidValue;
  }
  switch (p.type) {
    case FloatType::kFloat:
      return queue_backward<float>(make_job<1>(p, layout), run);
    case FloatType::kHalf:
      return queue_backward<__half>(make_job<1>(p, layout), run);
    case FloatType::kBFloat16:
      return queue_backward<__nv_bfloat16>(make_job<1>(p, layout), run);
  }
  return cudaErrorInvalidValue;
}

}  // namespace rwkv_edge
