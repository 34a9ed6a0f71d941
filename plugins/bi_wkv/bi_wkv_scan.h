// The scan over tokens that forward and backward share, written as phases: plain functions that a
// thread runs between two barriers. The GPU runs them in a kernel; a test runs the same functions
// thread by thread on the CPU.
//
// A block owns 16 channels and `kTokens` tokens. A thread owns `kSegment` tokens of V neighbouring
// channels, which it keeps in registers from the first phase to the last. The two directions of the
// 16 channels are 32 sequences, one a lane, and the eight warps share the segments among them:
//
//   load:       keys and values into registers; the constants of the block's channels
//
//   summarise:  the thread's segment as one sum a direction, into shared memory
//
//   group:      each warp adds up its group of segments; what enters from other blocks is fetched
//
//   prefix:     each segment's sum is replaced by the sum of all tokens before it
//
//   gather:     the thread adds, token by token, what comes from the left and from the right
#pragma once

#include "bi_wkv_tile.h"

namespace rwkv_edge {

// Of one channel: the decay over one token, a segment, a group and a block, and the bonus e^u.
struct ChannelConstants {
  Power token, segment, group, block, bonus;
  float decay, gain;  // the decay over one token and the bonus as plain numbers, where tame
  bool tame;          // eight tokens cannot leave the range of float32 around a common scale
};

// Compiled alone, the common path shows in its instructions what it costs: see
// benchmarks/kernel_resources.py.
WKV_FN bool is_tame(const ChannelConstants& c) {
#ifdef WKV_COMMON_PATH_ONLY
  return c.tame || true;
#else
  return c.tame;
#endif
}

// What a token adds to the sums: a and b, both times 2^(key * factor), the factor positive.
struct Term {
  float key, a, b;
};

// A thread's segment of one channel in registers. Once summarised, a and b are at 2^scale.
struct Segment {
  float key[kSegment], a[kSegment], b[kSegment];
  float scale;
};

template <int V, int N>
struct Shared {
  ChannelConstants channel[kBlockChannels];
  float sum[N][Geometry<V>::kRows][Geometry<V>::kStride];
  float scale[Geometry<V>::kRows][Geometry<V>::kStride];
  State<N> group[kGroups][kSequences];
  State<N> carry[kSequences];

  WKV_FN State<N> get(int row, int sequence) const {
    State<N> state;
    WKV_UNROLL
    for (int i = 0; i < N; ++i) state.sum[i] = sum[i][row][sequence];
    state.scale = scale[row][sequence];
    return state;
  }
  WKV_FN void set(int row, int sequence, const State<N>& state) {
    WKV_UNROLL
    for (int i = 0; i < N; ++i) sum[i][row][sequence] = state.sum[i];
    scale[row][sequence] = state.scale;
  }
};

// Sequences are numbered direction first, then so that the lanes of a warp are neighbours. Rows of
// the reverse direction are stored mirrored: both directions then scan from row 0 upwards.
template <int V>
WKV_FN int sequence_of(int direction, int lane, int c) {
  return direction * kBlockChannels + c * Geometry<V>::kLanes + lane;
}
template <int V>
WKV_FN int channel_of(int sequence) {  // within the block
  const int i = sequence % kBlockChannels;
  return i % Geometry<V>::kLanes * V + i / Geometry<V>::kLanes;
}
template <int V>
WKV_FN int row_of(int direction, int row) {
  return direction == 0 ? row : Geometry<V>::kRows - 1 - row;
}

// Phase load, the second half: one thread a channel.
template <int V, int N>
WKV_FN void load_constants(const Job& job, const Place<V>& at, Shared<V, N>& shared) {
  if (at.thread >= kBlockChannels) return;
  const int64_t channel = at.first_channel() + at.thread;
  const bool exists = channel < job.p.channels;
  const float w = exists ? job.p.w[channel] : 0.0f;
  const float u = exists ? job.p.u[channel] : 0.0f;
  ChannelConstants& c = shared.channel[at.thread];
  c.token = split_power(w, -kLog2E);
  c.segment = split_power(w * kSegment, -kLog2E);
  c.group = split_power(w * (kSegment * Geometry<V>::kGroupRows), -kLog2E);
  c.block = split_power(w * Geometry<V>::kTokens, -kLog2E);
  c.bonus = split_power(u, kLog2E);
  c.tame = fabsf(w) * kSegment < 11.0f && fabsf(u) < 11.0f;  // that is 2^16
  c.decay = c.tame ? c.token.mantissa * pow2(c.token.exponent) : 0.0f;
  c.gain = c.tame ? c.bonus.mantissa * pow2(c.bonus.exponent) : 0.0f;
}

// One more token next to the sums, which decay by it.
template <int N>
WKV_FN void step(State<N>& state, float decay, float a, float b) {
  WKV_UNROLL
  for (int i = 2; i < N; ++i) state.sum[i] = decay * (state.sum[i] + state.sum[i - 2]);
  state.sum[0] = fmaf(decay, state.sum[0], a);
  state.sum[1] = fmaf(decay, state.sum[1], b);
}

// The sums of a tame segment: one scale, one exponential a token, multiplications by a constant.
template <int N>
WKV_FN void sum_tame(Segment& s, float factor, const ChannelConstants& c, State<N>& left,
                     State<N>& right) {
  float top = s.key[0];
  WKV_UNROLL
  for (int t = 1; t < kSegment; ++t) top = fmaxf(top, s.key[t]);
  s.scale = fmaxf(rintf(top * factor), kEmptyScale);
  WKV_UNROLL
  for (int t = 0; t < kSegment; ++t) {
    const float weight = fast_exp2(fmaf(s.key[t], factor, -s.scale));
    s.a[t] *= weight;
    s.b[t] *= weight;
  }
  WKV_UNROLL
  for (int t = 0; t < kSegment; ++t) step(left, c.decay, s.a[t], s.b[t]);
  WKV_UNROLL
  for (int t = kSegment - 1; t >= 0; --t) step(right, c.decay, s.a[t], s.b[t]);
  left.scale = right.scale = s.scale;
}

// A channel that is not tame. Every token brings its own scale, and is read from memory when it is
// wanted: slow, rare, and in no one's way, since it holds no registers that the common case needs.
template <class Source>
struct Wild {
  static constexpr int N = Source::N;
  const Source& source;
  const ChannelConstants& c;
  int count;

  WKV_FN State<N> token(int t) const {
    const Term term = source.term(t);
    State<N> state = empty_state<N>();
    state.scale = fmaxf(rintf(term.key * Source::kFactor), kEmptyScale);
    const float weight = fast_exp2(fmaf(term.key, Source::kFactor, -state.scale));
    state.sum[0] = weight * term.a;
    state.sum[1] = weight * term.b;
    return state;
  }
  WKV_FN State<N> next(const State<N>& far, int t) const {
    return append(far, c.token, 1.0f, token(t));
  }
  // Everything right of token t, given what is right of the segment.
  WKV_FN State<N> right_of(int t, State<N> right) const {
    WKV_ROLLED
    for (int i = count - 1; i > t; --i) right = next(right, i);
    return right;
  }
  // What gather_tame computes, token by token.
  template <class Use>
  WKV_FN void gather(State<N> left, const State<N>& right, Use&& use) const {
    WKV_ROLLED
    for (int t = 0; t < count; ++t) {
      const State<N> others = append(left, Power{1.0f, 0.0f}, 0.0f, right_of(t, right));
      use(t, renormalise(append(token(t), c.bonus, 0.0f, others)));
      left = next(left, t);
    }
  }
};

// Phase summarise.
template <int V, class Source>
WKV_FN void summarise(const Job& job, const Place<V>& at, Segment (&segment)[V],
                      Shared<V, Source::N>& shared) {
  WKV_UNROLL
  for (int i = 0; i < V; ++i) {
    const ChannelConstants& c = shared.channel[at.lane * V + i];
    State<Source::N> left = empty_state<Source::N>(), right = left;
    if (is_tame(c)) {
      sum_tame(segment[i], Source::kFactor, c, left, right);
    } else {
      const Source source(job, at.offset(job) + i);
      const Wild<Source> wild{source, c, at.count(job)};
      WKV_ROLLED
      for (int t = 0; t < wild.count; ++t) left = wild.next(left, t);
      right = wild.right_of(-1, right);
      segment[i].scale = 0.0f;
    }
    shared.set(row_of<V>(0, at.row), sequence_of<V>(0, at.lane, i), left);
    shared.set(row_of<V>(1, at.row), sequence_of<V>(1, at.lane, i), right);
  }
}

// Phase group.
template <int V, int N>
WKV_FN void sum_group(const Place<V>& at, Shared<V, N>& shared) {
  const int sequence = at.thread % kSequences, group = at.thread / kSequences;
  const Power decay = shared.channel[channel_of<V>(sequence)].segment;
  const int first = group * Geometry<V>::kGroupRows;
  State<N> state = shared.get(first, sequence);
  WKV_UNROLL
  for (int i = 1; i < Geometry<V>::kGroupRows; ++i)
    state = append(state, decay, float(kSegment), shared.get(first + i, sequence));
  shared.group[group][sequence] = state;
}

// Phase prefix.
template <int V, int N>
WKV_FN void spread_prefixes(const Place<V>& at, Shared<V, N>& shared) {
  constexpr int kRows = Geometry<V>::kGroupRows;
  const int sequence = at.thread % kSequences, group = at.thread / kSequences;
  const ChannelConstants& constants = shared.channel[channel_of<V>(sequence)];
  State<N> state = shared.carry[sequence];
  for (int g = 0; g < group; ++g)
    state = append(state, constants.group, float(kSegment * kRows), shared.group[g][sequence]);
  WKV_UNROLL
  for (int i = 0; i < kRows; ++i) {
    const int row = group * kRows + i;
    const State<N> own = shared.get(row, sequence);
    shared.set(row, sequence, state);
    state = append(state, constants.segment, float(kSegment), own);
  }
}

// What enters a thread's segment of one channel, from a side (0 left, 1 right).
template <int V, int N>
WKV_FN State<N> entering(const Place<V>& at, int side, int c, const Shared<V, N>& shared) {
  return shared.get(row_of<V>(side, at.row), sequence_of<V>(side, at.lane, c));
}

// Phase gather, one channel: for each token the sum of everything left of it, right of it, and its
// own term times the bonus, all at one scale.
template <int N>
WKV_FN void gather_tame(Segment& s, const ChannelConstants& c, State<N> left, State<N> right,
                        State<N> (&total)[kSegment]) {
  // The segment's own scale serves all, unless what enters is so large that it might overflow.
  const float entering = fmaxf(left.scale, right.scale);
  float scale = s.scale;
  if (entering > scale + 32.0f) {
    scale = entering;
    const float f = pow2(s.scale - scale);
    WKV_UNROLL
    for (int t = 0; t < kSegment; ++t) s.a[t] *= f, s.b[t] *= f;
  }
  const float l = pow2(left.scale - scale), r = pow2(right.scale - scale);
  WKV_UNROLL
  for (int i = 0; i < N; ++i) left.sum[i] *= l, right.sum[i] *= r;

  WKV_UNROLL
  for (int t = kSegment - 1; t >= 0; --t) {
    total[t] = right;
    total[t].scale = scale;
    total[t].sum[0] = fmaf(c.gain, s.a[t], right.sum[0]);
    total[t].sum[1] = fmaf(c.gain, s.b[t], right.sum[1]);
    step(right, c.decay, s.a[t], s.b[t]);
  }
  WKV_UNROLL
  for (int t = 0; t < kSegment; ++t) {
    WKV_UNROLL
    for (int i = 0; i < N; ++i) total[t].sum[i] += left.sum[i];
    step(left, c.decay, s.a[t], s.b[t]);
  }
}

}  // namespace rwkv_edge
