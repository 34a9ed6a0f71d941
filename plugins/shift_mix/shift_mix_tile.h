// The kernel. A block owns 32 channels of 32 V consecutive pixels. It reads along pixels, where the
// map is contiguous, and writes along channels, where the mixes are; shared memory turns one into
// the other. In between there are, for each pixel and channel, two numbers: its own and the one of
// the neighbour that the channel is shifted from.
#pragma once

#include <cmath>

#include "../common/launch.h"
#include "shift_mix_kernel.h"

namespace rwkv_edge {
namespace shift_mix_kernel {

constexpr int kWarp = 32;
constexpr int kWarps = kThreads / kWarp;
constexpr int kChannels = 32;  // of a block
constexpr int kTaps = 9;
constexpr int kCentre = 4;

struct Job {
  ShiftMixParams p;
  unsigned pixels;   // of a map
  int64_t quarter;   // channels that are shifted the same way
};

// Where a channel takes its other number from, in the order of the quarters.
enum Side { kLeft, kRight, kAbove, kBelow, kNowhere };

WKV_FN Side side_of(const Job& job, int64_t channel) {
  int side = kLeft;
  WKV_UNROLL
  for (int i = 1; i <= kNowhere; ++i) side += channel >= i * job.quarter;
  return static_cast<Side>(side);
}

// The tap of the 3x3 filter that weighs it.
WKV_FN int tap_of(Side side) {
  return side == kLeft ? 3 : side == kRight ? 5 : side == kAbove ? 1 : 7;
}

// V elements as they stand in a word.
template <class T, int V>
struct Elements {
  Word<T, 1> at[V];
};

// N mixes; V pixels a thread and read, V channels a thread and write.
template <class T, int V, int N>
struct Mix {
  static constexpr int kPhases = 2;
  static constexpr int kPixels = kWarp * V;  // of a block
  static constexpr int kReads = kChannels / kWarps;
  static constexpr int kLanes = kChannels / V;  // that write one pixel
  static constexpr int kWrites = kPixels / (kWarps * V);
  static_assert(kWrites == 4, "row() spreads four");

  struct Registers {};
  // Own number and neighbour's side by side, and weights, by channel. Pixels and channels that a
  // thread has at once stand apart, and rows are an odd number of words: no bank conflicts.
  struct Shared {
    Word<T, 2> numbers[kPixels][kChannels + 1];
    float weight[N][2][kChannels];
  };

  static Grid grid(const Job& job) {
    return {count_blocks(job.pixels, kPixels), count_blocks(job.p.channels, kChannels),
            static_cast<unsigned>(job.p.batch)};
  }

  template <int kPhase>
  WKV_FN static void phase(const Job& job, const Grid& block, int thread, Registers&,
                           Shared& shared) {
    if constexpr (kPhase == 0) {
      read_weights(job, block, thread, shared);
      read_map(job, block, thread, shared);
    } else {
      write_mixes(job, block, thread, shared);
    }
  }

  WKV_FN static void read_weights(const Job& job, const Grid& block, int thread, Shared& shared) {
    const int lane = thread % kWarp, kind = thread / kWarp;  // 0: of the own number, 1: of the other
    const int64_t channel = int64_t{block.y} * kChannels + lane;
    if (kind > 1 || channel >= job.p.channels) return;
    const Side side = side_of(job, channel);
    const int tap = kind == 0 ? kCentre : tap_of(side);
    WKV_UNROLL
    for (int n = 0; n < N; ++n) {
      const T* weight = static_cast<const T*>(job.p.weight[n]);
      const bool none = kind == 1 && side == kNowhere;
      shared.weight[n][kind][lane] = none ? 0.0f : to_float(weight[channel * kTaps + tap]);
    }
  }

  // A warp reads one channel's pixels after the other.
  WKV_FN static void read_map(const Job& job, const Grid& block, int thread, Shared& shared) {
    const int lane = thread % kWarp, warp = thread / kWarp;
    const unsigned pixel = block.x * kPixels + lane * V;
    if (pixel >= job.pixels) return;
    const unsigned width = static_cast<unsigned>(job.p.width), column = pixel % width;
    Elements<T, V> own[kReads], other[kReads];
    WKV_UNROLL
    for (int i = 0; i < kReads; ++i) {
      const int64_t channel = int64_t{block.y} * kChannels + warp + i * kWarps;
      if (channel >= job.p.channels) continue;
      const T* const x = static_cast<const T*>(job.p.x) +
                         (block.z * job.p.channels + channel) * int64_t{job.pixels} + pixel;
      const Side side = side_of(job, channel);
      own[i] = same_bits<Elements<T, V>>(load<T, V>(x));
      other[i] = {};
      if (side == kAbove && pixel >= width)
        other[i] = same_bits<Elements<T, V>>(load<T, V>(x - width));
      if (side == kBelow && pixel < job.pixels - width)
        other[i] = same_bits<Elements<T, V>>(load<T, V>(x + width));
      if (side == kLeft && column > 0) other[i].at[0] = load<T, 1>(x - 1);
      if (side == kRight && column + V < width) other[i].at[V - 1] = load<T, 1>(x + V);
      if constexpr (V == 2) {  // the pair holds the other half of its neighbours itself
        if (side == kLeft) other[i].at[1] = own[i].at[0];
        if (side == kRight) other[i].at[0] = own[i].at[1];
      }
    }
    WKV_UNROLL
    for (int i = 0; i < kReads; ++i) {
      const int c = warp + i * kWarps;
      if (int64_t{block.y} * kChannels + c >= job.p.channels) continue;
      WKV_UNROLL
      for (int v = 0; v < V; ++v) {
        const Elements<T, 2> both = {{own[i].at[v], other[i].at[v]}};
        shared.numbers[v * kWarp + lane][c % V * kLanes + c / V] = same_bits<Word<T, 2>>(both);
      }
    }
  }

  // A warp writes the channels of V pixels at a time, V channels a thread.
  WKV_FN static void write_mixes(const Job& job, const Grid& block, int thread,
                                 const Shared& shared) {
    const int lane = thread % kLanes;
    const int64_t channel = int64_t{block.y} * kChannels + lane * V;
    if (channel >= job.p.channels) return;
    float own[N][V], other[N][V];
    WKV_UNROLL
    for (int n = 0; n < N; ++n) {
      WKV_UNROLL
      for (int v = 0; v < V; ++v) {
        own[n][v] = shared.weight[n][0][lane * V + v];
        other[n][v] = shared.weight[n][1][lane * V + v];
      }
    }
    WKV_UNROLL
    for (int i = 0; i < kWrites; ++i) {
      const int place = row(thread, i);
      const unsigned pixel = block.x * kPixels + place % kWarp * V + place / kWarp;
      if (pixel >= job.pixels) continue;
      float numbers[V][2];
      WKV_UNROLL
      for (int v = 0; v < V; ++v)
        unpack(static_cast<const T*>(nullptr), shared.numbers[place][v * kLanes + lane],
               numbers[v]);
      const int64_t offset =
          (block.z * int64_t{job.pixels} + pixel) * job.p.channels + channel;
      WKV_UNROLL
      for (int n = 0; n < N; ++n) {
        float mixed[V];
        WKV_UNROLL
        for (int v = 0; v < V; ++v)
          mixed[v] = fmaf(numbers[v][1], other[n][v], numbers[v][0] * own[n][v]);
        T* const y = static_cast<T*>(job.p.y[n]) + offset;
        Word<T, V> word;
        pack(mixed, y, &word);
        store<T, V>(y, word);
      }
    }
  }

  // The row of shared memory that a thread takes in its i-th write. The pixels that a warp writes at
  // once are 16 rows apart, so that together they touch every bank.
  WKV_FN static int row(int thread, int i) {
    const int warp = thread / kWarp, half = thread % kWarp / kLanes;
    return half * 16 + warp + i % 2 * kWarps + i / 2 * 16 * V;
  }
};

// What a grid and 32-bit pixel indices can take.
inline bool sizes_fit(const ShiftMixParams& p) {
  if (p.batch < 0 || p.channels < 0 || p.height < 0 || p.width < 0) return false;
  constexpr int64_t kMost = (int64_t{1} << 31) - 1;
  if (p.height > kMost || p.width > kMost || p.height * p.width > kMost) return false;
  return p.batch <= 65535 && p.channels <= 65535 * int64_t{kChannels};
}

inline bool pointers_are_there(const ShiftMixParams& p) {
  bool there = p.x != nullptr;
  for (int n = 0; n < p.mixes; ++n) there = there && p.weight[n] != nullptr && p.y[n] != nullptr;
  return there;
}

// Two elements an access need even rows both ways and pointers to match.
inline bool pairs_fit(const ShiftMixParams& p) {
  const auto aligned = [&](const void* pointer) {
    return reinterpret_cast<uintptr_t>(pointer) % (2 * size_of(p.type)) == 0;
  };
  bool fit = p.width % 2 == 0 && p.channels % 2 == 0 && aligned(p.x);
  for (int n = 0; n < p.mixes; ++n) fit = fit && aligned(p.y[n]);
  return fit;
}

template <class T, int N, class Run>
cudaError_t run_as(const Job& job, Run&& run) {
  return pairs_fit(job.p) ? run(Tag<Mix<T, 2, N>>{}, job) : run(Tag<Mix<T, 1, N>>{}, job);
}

template <int N, class Run>
cudaError_t run_mixes(const Job& job, Run&& run) {
  switch (job.p.type) {
    case FloatType::kFloat:
      return run_as<float, N>(job, run);
    case FloatType::kHalf:
      return run_as<__half, N>(job, run);
    case FloatType::kBFloat16:
      return run_as<__nv_bfloat16, N>(job, run);
  }
  return cudaErrorInvalidValue;
}

// Which kernel a call takes. `run` gets its type, as a tag, and the job.
template <class Run>
cudaError_t plan(const ShiftMixParams& p, Run&& run) {
  if (!sizes_fit(p) || p.mixes < 2 || p.mixes > kMostMixes) return cudaErrorInvalidValue;
  if (p.batch == 0 || p.channels == 0 || p.height * p.width == 0) return cudaSuccess;
  if (!pointers_are_there(p)) return cudaErrorInvalidValue;
  const Job job = {p, static_cast<unsigned>(p.height * p.width), p.channels / 4};
  return p.mixes == 2 ? run_mixes<2>(job, run) : run_mixes<3>(job, run);
}

}  // namespace shift_mix_kernel
}  // namespace rwkv_edge
