// The backward pass. With N and D the numerator and denominator of y, g = gy / D and h = -gy y / D,
// the gradients of k and v are the same bidirectional sums once more, over g and h with weights 1 /
// D in place of e^k:
//
//   G_i  = sum_{t != i} e^{-(|t-i|-1) w} g_t + e^u g_i        H_i likewise from h
//   dv_i = e^{k_i} G_i                                        dk_i = e^{k_i} (v_i G_i + H_i)
//   du   = sum_t e^{u + k_t} (v_t g_t + h_t)
//   dw   = sum_i e^{k_i} (v_i dG_i/dw + dH_i/dw)
//
// where dG/dw is G with each term times minus its distance: the third and fourth sum of the state.
// e^{k_i} e^{-(|t-i|-1) w} / D_t is a summand of D_t over D_t, so at most one: no range is left
// here that the forward does not have.
//
// y and D are computed again, in float32 into the workspace: training keeps nothing but its inputs,
// and y rounded to float16 would cost dw digits where the decay is strong. The gradients of w and u
// are added up block by block in the workspace and then in a fixed order: no atomics, the same bits
// on every run.
#pragma once

#include "bi_wkv_blocks.h"

namespace rwkv_edge {

// The terms of the backward, one channel of one segment: g and h.
template <class T>
struct BackwardSource {
  static constexpr int N = 4;
  static constexpr float kFactor = 1.0f;
  const T* grad_y;
  const float *y, *log2_denominator;
  int64_t channels;

  WKV_FN BackwardSource(const Job& job, int64_t offset)
      : grad_y(static_cast<const T*>(job.p.grad_y) + offset),
        y(job.y + offset),
        log2_denominator(job.log2_denominator + offset),
        channels(job.p.channels) {}
  WKV_FN Term term(int t) const {
    const float g = to_float(grad_y[t * channels]);
    return {-log2_denominator[t * channels], g, -g * y[t * channels]};
  }
};

template <class T>
WKV_FN void load_backward(const Job& job, const Place<1>& at, Segment& segment) {
  const BackwardSource<T> source(job, at.offset(job));
  const int count = at.count(job);
  WKV_UNROLL
  for (int t = 0; t < kSegment; ++t) {
    const Term term = t < count ? source.term(t) : Term{-INFINITY, 0.0f, 0.0f};
    segment.key[t] = term.key;
    segment.a[t] = term.a;
    segment.b[t] = term.b;
  }
}

template <class T>
struct BackwardSum {
  static constexpr int kPhases = 4;
  using Registers = Segment[1];
  using Shared = rwkv_edge::Shared<1, 4>;

  static Grid grid(const Job& job) { return tiles(job); }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers& segment,
                           Shared& shared) {
    const Place<1> at(job, block, thread);
    if constexpr (kPhase == 0) {
      load_backward<T>(job, at, segment[0]);
      load_constants(job, at, shared);
    } else if constexpr (kPhase == 1) {
      summarise<1, BackwardSource<T>>(job, at, segment, shared);
    } else if constexpr (kPhase == 2) {
      sum_group(at, shared);
    } else {
      store_block_sum(job, at, shared);
    }
  }
};

// A block's gradients of w and u: [which][batch][block][channel].
WKV_FN float* partial_gradients(const Job& job, int which, int64_t batch, int64_t block) {
  return job.partials + ((which * job.p.batch + batch) * job.blocks + block) * job.p.channels;
}

template <class T>
struct BackwardEmit {
  static constexpr int kPhases = 6;
  using Registers = Segment[1];
  struct Shared {
    rwkv_edge::Shared<1, 4> scan;
    float partial[2][Geometry<1>::kRows][kBlockChannels];
  };

  static Grid grid(const Job& job) { return BackwardSum<T>::grid(job); }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers& segment,
                           Shared& shared) {
    const Place<1> at(job, block, thread);
    if constexpr (kPhase == 0) {
      load_backward<T>(job, at, segment[0]);
      load_constants(job, at, shared.scan);
    } else if constexpr (kPhase == 1) {
      summarise<1, BackwardSource<T>>(job, at, segment, shared.scan);
    } else if constexpr (kPhase == 2) {
      sum_group(at, shared.scan);
      fetch_carry(job, at, shared.scan);
    } else if constexpr (kPhase == 3) {
      spread_prefixes(at, shared.scan);
    } else if constexpr (kPhase == 4) {
      emit(job, at, segment[0], shared);
    } else {
      store_partials(job, at, shared);
    }
  }

  // Writes the gradients of one token's k and v, and adds its share of those of w and u.
  struct Finish {
    const T *k, *v;
    const BackwardSource<T> source;
    T *grad_k, *grad_v;
    Power bonus;
    float grad_w = 0.0f, grad_u = 0.0f;

    WKV_FN Finish(const Job& job, int64_t offset, const Power& bonus_power)
        : k(static_cast<const T*>(job.p.k) + offset),
          v(static_cast<const T*>(job.p.v) + offset),
          source(job, offset),
          grad_k(static_cast<T*>(job.p.grad_k) + offset),
          grad_v(static_cast<T*>(job.p.grad_v) + offset),
          bonus(bonus_power) {}

    WKV_FN void operator()(int t, const State<4>& total) {
      const int64_t i = t * source.channels;
      const float key = to_float(k[i]), value = to_float(v[i]);
      const Term term = source.term(t);
      // e^k at the scale of the sums, and e^(u+k) / D.
      const float weight = fast_exp2(fmaf(key, kLog2E, total.scale));
      const float own = bonus.mantissa * fast_exp2(fmaf(key, kLog2E, bonus.exponent + term.key));
      from_float(weight * fmaf(value, total.sum[0], total.sum[1]), &grad_k[i]);
      from_float(weight * total.sum[0], &grad_v[i]);
      grad_w -= weight * fmaf(value, total.sum[2], total.sum[3]);
      grad_u = fmaf(own, fmaf(value, term.a, term.b), grad_u);
    }
  };

  WKV_FN static void emit(const Job& job, const Place<1>& at, Segment& segment, Shared& shared) {
    const ChannelConstants& c = shared.scan.channel[at.lane];
    const State<4> left = entering(at, 0, 0, shared.scan), right = entering(at, 1, 0, shared.scan);
    const int count = at.count(job);
    Finish finish(job, at.offset(job), c.bonus);
    if (is_tame(c)) {
      State<4> total[kSegment];
      gather_tame(segment, c, left, right, total);
      WKV_UNROLL
      for (int t = 0; t < kSegment; ++t)
        if (t < count) finish(t, total[t]);
    } else {
      Wild<BackwardSource<T>>{finish.source, c, count}.gather(left, right, finish);
    }
    shared.partial[0][at.row][at.lane] = finish.grad_w;
    shared.partial[1][at.row][at.lane] = finish.grad_u;
  }

  WKV_FN static void store_partials(const Job& job, const Place<1>& at, const Shared& shared) {
    if (at.thread >= 2 * kBlockChannels) return;
    const int which = at.thread / kBlockChannels, lane = at.thread % kBlockChannels;
    const int64_t channel = at.first_channel() + lane;
    if (channel >= job.p.channels) return;
    float sum = 0.0f;
    for (int row = 0; row < Geometry<1>::kRows; ++row) sum += shared.partial[which][row][lane];
    partial_gradients(job, which, at.batch, at.block)[channel] = sum;
  }
};

// The last step: a thread adds up one channel's partial gradients.
struct BackwardReduce {
  static constexpr int kPhases = 1;
  struct Registers {};
  struct Shared {};

  static Grid grid(const Job& job) { return {count_blocks(2 * job.p.channels, kThreads), 1, 1}; }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers&, Shared&) {
    const int64_t i = int64_t{block.x} * kThreads + thread, channels = job.p.channels;
    if (i >= 2 * channels) return;
    const int which = i >= channels;
    const float* from = partial_gradients(job, which, 0, 0) + i % channels;
    float sum = 0.0f;
    for (int64_t row = 0; row < job.p.batch * job.blocks; ++row) sum += from[row * channels];
    (which == 0 ? job.p.grad_w : job.p.grad_u)[i % channels] = sum;
  }
};

}  // namespace rwkv_edge
