// The forward pass. A short sequence takes one kernel, ForwardEmit; a longer one is first summed
// block by block (ForwardSum), so that each block can fetch what enters it from both sides.
#pragma once

#include "bi_wkv_blocks.h"

namespace rwkv_edge {

// The terms of the forward, one channel of one segment: e^k v and e^k.
template <class T>
struct ForwardSource {
  static constexpr int N = 2;
  static constexpr float kFactor = kLog2E;
  const T *k, *v;
  int64_t channels;

  WKV_FN ForwardSource(const Job& job, int64_t offset)
      : k(static_cast<const T*>(job.p.k) + offset),
        v(static_cast<const T*>(job.p.v) + offset),
        channels(job.p.channels) {}
  WKV_FN Term term(int t) const {
    return {to_float(k[t * channels]), to_float(v[t * channels]), 1.0f};
  }
};

// The same for a whole segment and V channels, into registers: float32, the channels of a pack
// apart.
template <class T, int V>
WKV_FN void load_forward(const Job& job, const Place<V>& at, Segment (&segment)[V]) {
  const T* k = static_cast<const T*>(job.p.k) + at.offset(job);
  const T* v = static_cast<const T*>(job.p.v) + at.offset(job);
  const int count = at.count(job);
  // Tokens past the end weigh nothing.
  WKV_UNROLL
  for (int t = 0; t < kSegment; ++t, k += job.p.channels, v += job.p.channels) {
    float key[V], value[V];
    Word<T, V> key_word = pack_all<T, V>(-INFINITY), value_word = pack_all<T, V>(0.0f);
    if (t < count) key_word = load<T, V>(k), value_word = load<T, V>(v);
    unpack(k, key_word, key);
    unpack(v, value_word, value);
    WKV_UNROLL
    for (int c = 0; c < V; ++c) {
      segment[c].key[t] = key[c];
      segment[c].a[t] = value[c];
      segment[c].b[t] = 1.0f;
    }
  }
}

template <class T, int V>
struct ForwardSum {
  static constexpr int kPhases = 4;
  using Registers = Segment[V];
  using Shared = rwkv_edge::Shared<V, 2>;

  static Grid grid(const Job& job) { return tiles(job); }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers& segment,
                           Shared& shared) {
    const Place<V> at(job, block, thread);
    if constexpr (kPhase == 0) {
      load_forward<T, V>(job, at, segment);
      load_constants(job, at, shared);
    } else if constexpr (kPhase == 1) {
      summarise<V, ForwardSource<T>>(job, at, segment, shared);
    } else if constexpr (kPhase == 2) {
      sum_group(at, shared);
    } else {
      store_block_sum(job, at, shared);
    }
  }
};

// With kExact it writes, for the backward, y in float32 and the denominator instead of y.
template <class T, int V, bool kExact>
struct ForwardEmit {
  static constexpr int kPhases = 5;
  using Registers = Segment[V];
  using Shared = rwkv_edge::Shared<V, 2>;

  static Grid grid(const Job& job) { return ForwardSum<T, V>::grid(job); }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers& segment,
                           Shared& shared) {
    const Place<V> at(job, block, thread);
    if constexpr (kPhase == 0) {
      load_forward<T, V>(job, at, segment);
      load_constants(job, at, shared);
    } else if constexpr (kPhase == 1) {
      summarise<V, ForwardSource<T>>(job, at, segment, shared);
    } else if constexpr (kPhase == 2) {
      sum_group(at, shared);
      fetch_carry(job, at, shared);
    } else if constexpr (kPhase == 3) {
      spread_prefixes(at, shared);
    } else {
      emit(job, at, segment, shared);
    }
  }

  WKV_FN static void emit(const Job& job, const Place<V>& at, Registers& segment,
                          const Shared& shared) {
    const int channels = static_cast<int>(job.p.channels), count = at.count(job);
    const int64_t offset = at.offset(job);
    T* y = static_cast<T*>(job.p.y) + offset;
    float result[kSegment][V];
    WKV_UNROLL
    for (int c = 0; c < V; ++c) {
      State<2> total[kSegment];
      gather_tame(segment[c], shared.channel[at.lane * V + c], entering(at, 0, c, shared),
                  entering(at, 1, c, shared), total);
      WKV_UNROLL
      for (int t = 0; t < kSegment; ++t) {
        if constexpr (!kExact)
          result[t][c] = quotient(total[t]);
        else if (t < count)
          write_exact(job, offset + c + t * channels, total[t]);
      }
    }
    if constexpr (!kExact) {
      WKV_UNROLL
      for (int t = 0; t < kSegment; ++t) {
        Word<T, V> word;
        pack(result[t], y, &word);
        if (t < count) store<T, V>(y + t * channels, word);
      }
    }
    // Where a channel is not tame, write it again, right.
    WKV_UNROLL
    for (int c = 0; c < V; ++c) {
      const ChannelConstants& constants = shared.channel[at.lane * V + c];
      if (is_tame(constants)) continue;
      const ForwardSource<T> source(job, offset + c);
      const Wild<ForwardSource<T>> wild{source, constants, count};
      wild.gather(entering(at, 0, c, shared), entering(at, 1, c, shared),
                  [&](int t, const State<2>& total) {
                    if constexpr (kExact)
                      write_exact(job, offset + c + t * channels, total);
                    else
                      from_float(quotient(total), &y[c + t * channels]);
                  });
    }
  }

  WKV_FN static float quotient(const State<2>& total) {
    return total.sum[0] * fast_reciprocal(total.sum[1]);
  }
  WKV_FN static void write_exact(const Job& job, int64_t i, const State<2>& total) {
    job.y[i] = quotient(total);
    job.log2_denominator[i] = total.scale + fast_log2(total.sum[1]);
  }
};

}  // namespace rwkv_edge
