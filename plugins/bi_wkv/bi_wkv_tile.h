// How the work is cut: what a launch, a block and a thread own.
#pragma once

#include "../common/launch.h"
#include "bi_wkv_kernel.h"
#include "bi_wkv_state.h"

namespace rwkv_edge {

constexpr int kSegment = 8;         // tokens a thread
constexpr int kBlockChannels = 16;  // one 32-byte sector of float16
constexpr int kSequences = 2 * kBlockChannels;
constexpr int kGroups = kThreads / kSequences;

template <int V>
struct Geometry {
  static constexpr int kLanes = kBlockChannels / V;
  static constexpr int kRows = kThreads / kLanes;  // segments
  static constexpr int kTokens = kRows * kSegment;
  static constexpr int kGroupRows = kRows / kGroups;
  static constexpr int kStride = kSequences + kLanes;  // no bank conflicts either way
};

// What a launch works on: the caller's parameters, how the tokens are cut, and where in the
// workspace things are.
struct Job {
  BiWkvParams p;
  int64_t blocks;           // of tokens, in a sequence
  int64_t first_block;      // of this launch: very long sequences take several
  bool carried;             // `sums` holds what enters each block, not what each block sums to
  float* sums;              // a State a block, channel and direction
  float* partials;          // backward: a block's gradients of w and u
  float* y;                 // backward: y in float32
  float* log2_denominator;  // backward: log2 of the denominator
};

// The grid of the kernels that work on tiles of channels and tokens: x counts channel groups, so
// that neighbours share cache lines, y token blocks, z sequences.
#ifndef WKV_MOST_ROWS
#define WKV_MOST_ROWS 65535  // of a grid, in y; a test makes it smaller
#endif
inline Grid tiles(const Job& job) {
  const int64_t rest = job.blocks - job.first_block;
  return {count_blocks(job.p.channels, kBlockChannels),
          static_cast<unsigned>(rest < WKV_MOST_ROWS ? rest : WKV_MOST_ROWS),
          static_cast<unsigned>(job.p.batch)};
}

// Where a thread of a block works.
template <int V>
struct Place {
  int thread, lane, row;
  int64_t batch, block, channel, token;  // the thread's first channel and token

  WKV_FN Place(const Job& job, const Grid& at, int thread_index)
      : thread(thread_index),
        lane(thread_index % Geometry<V>::kLanes),
        row(thread_index / Geometry<V>::kLanes),
        batch(at.z),
        block(job.first_block + at.y),
        channel(int64_t{at.x} * kBlockChannels + lane * V),
        token(block * Geometry<V>::kTokens + row * kSegment) {}
  WKV_FN int64_t first_channel() const { return channel - lane * V; }
  // Of the thread's first element. From there on, steps of `channels` fit 32 bits.
  WKV_FN int64_t offset(const Job& job) const {
    return (batch * job.p.tokens + token) * job.p.channels + channel;
  }
  // How many of the thread's tokens exist.
  WKV_FN int count(const Job& job) const {
    const int64_t left = channel < job.p.channels ? job.p.tokens - token : 0;
    return left >= kSegment ? kSegment : left > 0 ? static_cast<int>(left) : 0;
  }
};

}  // namespace rwkv_edge
