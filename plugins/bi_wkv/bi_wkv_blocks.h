// What blocks of tokens tell each other, through the workspace and from launch to launch.
#pragma once

#include "bi_wkv_scan.h"

namespace rwkv_edge {

// Sums of blocks in the workspace, channels innermost: [field][direction][batch][block][channel].
template <int N>
struct BlockSums {
  float* data;
  int64_t batch, blocks, channels;

  WKV_FN explicit BlockSums(const Job& job)
      : data(job.sums), batch(job.p.batch), blocks(job.blocks), channels(job.p.channels) {}

  WKV_FN int64_t field() const { return 2 * batch * blocks * channels; }
  WKV_FN float* at(int direction, int64_t b, int64_t block, int64_t channel) const {
    return data + ((direction * batch + b) * blocks + block) * channels + channel;
  }
  WKV_FN State<N> get(int direction, int64_t b, int64_t block, int64_t channel) const {
    const float* from = at(direction, b, block, channel);
    State<N> state;
    WKV_UNROLL
    for (int i = 0; i < N; ++i) state.sum[i] = from[i * field()];
    state.scale = from[N * field()];
    return state;
  }
  WKV_FN void set(int direction, int64_t b, int64_t block, int64_t channel,
                  const State<N>& state) const {
    float* to = at(direction, b, block, channel);
    WKV_UNROLL
    for (int i = 0; i < N; ++i) to[i * field()] = state.sum[i];
    to[N * field()] = state.scale;
  }
};

// Phase group, for the lanes of the first warp: what enters the block from other blocks.
template <int V, int N>
WKV_FN void fetch_carry(const Job& job, const Place<V>& at, Shared<V, N>& shared) {
  if (at.thread >= kSequences) return;
  const int direction = at.thread / kBlockChannels, c = channel_of<V>(at.thread);
  const int64_t channel = at.first_channel() + c;
  State<N> state = empty_state<N>();
  if (job.blocks > 1 && channel < job.p.channels) {
    const BlockSums<N> sums(job);
    const Power decay = shared.channel[c].block;
    const float tokens = Geometry<V>::kTokens;
    const int64_t first = direction == 0 ? 0 : job.blocks - 1, step = direction == 0 ? 1 : -1;
    if (job.carried)
      state = sums.get(direction, at.batch, at.block, channel);
    else
      for (int64_t block = first; block != at.block; block += step)
        state = renormalise(
            append(state, decay, tokens, sums.get(direction, at.batch, block, channel)));
  }
  shared.carry[at.thread] = state;
}

// Phase total, of the summing kernels: the groups' sums become the block's.
template <int V, int N>
WKV_FN void store_block_sum(const Job& job, const Place<V>& at, const Shared<V, N>& shared) {
  if (at.thread >= kSequences) return;
  const int direction = at.thread / kBlockChannels, c = channel_of<V>(at.thread);
  const int64_t channel = at.first_channel() + c;
  if (channel >= job.p.channels) return;
  State<N> state = empty_state<N>();
  for (int g = 0; g < kGroups; ++g)
    state = append(state, shared.channel[c].group, float(kSegment * Geometry<V>::kGroupRows),
                   shared.group[g][at.thread]);
  BlockSums<N>(job).set(direction, at.batch, at.block, channel, renormalise(state));
}

// Of a very long sequence: a thread walks over the blocks of one channel in one direction and
// replaces each block's sum by the sum of all blocks before it, so that no block has to.
template <int V, int N>
struct CarryScan {
  static constexpr int kPhases = 1;
  struct Registers {};
  struct Shared {};

  static Grid grid(const Job& job) {
    return {count_blocks(2 * job.p.batch * job.p.channels, kThreads), 1, 1};
  }
  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers&, Shared&) {
    const int64_t i = int64_t{block.x} * kThreads + thread, channels = job.p.channels;
    if (i >= 2 * job.p.batch * channels) return;
    const int direction = i >= job.p.batch * channels;
    const int64_t batch = i / channels % job.p.batch, channel = i % channels;
    const Power decay = split_power(job.p.w[channel] * Geometry<V>::kTokens, -kLog2E);
    const BlockSums<N> sums(job);
    State<N> state = empty_state<N>();
    for (int64_t n = 0; n < job.blocks; ++n) {
      const int64_t block = direction == 0 ? n : job.blocks - 1 - n;
      const State<N> own = sums.get(direction, batch, block, channel);
      sums.set(direction, batch, block, channel, state);
      state = renormalise(append(state, decay, float(Geometry<V>::kTokens), own));
    }
  }
};

}  // namespace rwkv_edge
