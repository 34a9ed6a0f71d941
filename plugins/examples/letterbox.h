// rwkv_edge/preprocess.py in C++: frame -> network input, probability -> mask. Nothing but C++17.
//
// The scaling is OpenCV's cv::resize, computed in the same order with the same roundings, so that
// Python and C++ hand the network the same pixels. Compile with -ffp-contract=off. Probabilities on
// their way back differ by 1e-5 where OpenCV uses Intel's library, which takes finer weights.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace rwkv_edge {

// Rows of pixels, each `channels` values; colours in the order blue, green, red.
template <class T>
struct Image {
  int height = 0;
  int width = 0;
  int channels = 1;
  std::vector<T> data;

  Image(int h, int w, int c)
      : height(h), width(w), channels(c), data(static_cast<std::size_t>(h) * w * c) {}
  T* row(int y) { return data.data() + static_cast<std::size_t>(y) * width * channels; }
  T const* row(int y) const { return data.data() + static_cast<std::size_t>(y) * width * channels; }
};

namespace detail {

// An output pixel lies between two input pixels, `weight` of the way from the first.
struct Between {
  int first;
  int second;
  float weight;
};

inline Between between(int index, int outputs, int inputs) {
  const double scale = static_cast<double>(inputs) / outputs;
  const float place = static_cast<float>((index + 0.5) * scale - 0.5);
  const int first = static_cast<int>(std::floor(place));
  const auto inside = [inputs](int i) { return std::clamp(i, 0, inputs - 1); };
  return {inside(first), inside(first + 1), place - static_cast<float>(first)};
}

// An input pixel's share of an output pixel that covers it.
struct Share {
  int output;
  int input;
  float weight;
};

inline std::vector<Share> shares(int inputs, int outputs) {
  constexpr double kNothing = 1e-3;
  const double scale = static_cast<double>(inputs) / outputs;
  std::vector<Share> result;
  for (int i = 0; i < outputs; ++i) {
    const double begin = i * scale, end = begin + scale;
    const double length = std::min(scale, inputs - begin);
    const int last = std::min(static_cast<int>(std::floor(end)), inputs - 1);
    const int first = std::min(static_cast<int>(std::ceil(begin)), last);
    const auto add = [&](int input, double part) {
      result.push_back({i, input, static_cast<float>(part / length)});
    };
    if (first - begin > kNothing) add(first - 1, first - begin);
    for (int input = first; input < last; ++input) add(input, 1.0);
    if (end - last > kNothing) add(last, std::min({end - last, 1.0, length}));
  }
  return result;
}

inline std::uint8_t to_byte(float value) {
  return static_cast<std::uint8_t>(std::clamp(std::nearbyint(value), 0.0f, 255.0f));
}

// Bilinear in integers: weights of 11 bits, horizontally first.
inline void resize_linear(Image<std::uint8_t> const& from, Image<std::uint8_t>& to) {
  constexpr float kOne = 2048.0f;
  const int channels = from.channels;
  const auto whole = [](float value) { return static_cast<int>(std::nearbyint(value * kOne)); };
  Image<int> wide(from.height, to.width, channels);
  for (int x = 0; x < to.width; ++x) {
    Between at = between(x, to.width, from.width);
    if (at.first == at.second) at.weight = 0.0f;
    const int left = whole(1.0f - at.weight), right = whole(at.weight);
    for (int y = 0; y < from.height; ++y)
      for (int c = 0; c < channels; ++c)
        wide.row(y)[x * channels + c] = from.row(y)[at.first * channels + c] * left +
                                        from.row(y)[at.second * channels + c] * right;
  }
  for (int y = 0; y < to.height; ++y) {
    const Between at = between(y, to.height, from.height);
    const int upper = whole(1.0f - at.weight), lower = whole(at.weight);
    int const* const above = wide.row(at.first);
    int const* const below = wide.row(at.second);
    for (int i = 0; i < to.width * channels; ++i) {
      const int sum = ((upper * (above[i] >> 4)) >> 16) + ((lower * (below[i] >> 4)) >> 16);
      to.row(y)[i] = static_cast<std::uint8_t>(std::clamp((sum + 2) >> 2, 0, 255));
    }
  }
}

// Mean over the area that an output pixel covers, for whole ratios in integers.
inline void resize_area_whole(Image<std::uint8_t> const& from, Image<std::uint8_t>& to) {
  const int rows = from.height / to.height, columns = from.width / to.width;
  const int channels = from.channels;
  const float scale = 1.0f / static_cast<float>(rows * columns);
  for (int y = 0; y < to.height; ++y)
    for (int i = 0; i < to.width * channels; ++i) {
      const int x = i / channels, c = i % channels;
      int sum = 0;
      for (int dy = 0; dy < rows; ++dy)
        for (int dx = 0; dx < columns; ++dx)
          sum += from.row(y * rows + dy)[(x * columns + dx) * channels + c];
      const bool of_four = rows == 2 && columns == 2;
      to.row(y)[i] = of_four ? static_cast<std::uint8_t>((sum + 2) >> 2)
                             : to_byte(static_cast<float>(sum) * scale);
    }
}

inline void resize_area(Image<std::uint8_t> const& from, Image<std::uint8_t>& to) {
  if (from.height % to.height == 0 && from.width % to.width == 0)
    return resize_area_whole(from, to);
  const int channels = from.channels;
  Image<float> wide(from.height, to.width, channels);
  const std::vector<Share> columns = shares(from.width, to.width);
  for (int y = 0; y < from.height; ++y)
    for (Share const& share : columns)
      for (int c = 0; c < channels; ++c)
        wide.row(y)[share.output * channels + c] +=
            static_cast<float>(from.row(y)[share.input * channels + c]) * share.weight;
  Image<float> sums(to.height, to.width, channels);
  for (Share const& share : shares(from.height, to.height))
    for (int i = 0; i < to.width * channels; ++i)
      sums.row(share.output)[i] += wide.row(share.input)[i] * share.weight;
  std::transform(sums.data.begin(), sums.data.end(), to.data.begin(), to_byte);
}

// Bilinear in floating point, for probabilities.
inline void resize_linear(Image<float> const& from, Image<float>& to) {
  const auto mix = [](float a, float b, float weight) { return a * (1.0f - weight) + b * weight; };
  Image<float> wide(from.height, to.width, 1);
  for (int x = 0; x < to.width; ++x) {
    const Between at = between(x, to.width, from.width);
    for (int y = 0; y < from.height; ++y)
      wide.row(y)[x] = mix(from.row(y)[at.first], from.row(y)[at.second], at.weight);
  }
  for (int y = 0; y < to.height; ++y) {
    const Between at = between(y, to.height, from.height);
    for (int x = 0; x < to.width; ++x)
      to.row(y)[x] = mix(wide.row(at.first)[x], wide.row(at.second)[x], at.weight);
  }
}

}  // namespace detail

// Where a frame lies inside the network input: as large as it fits, centred on black.
struct Letterbox {
  int frame_height, frame_width;
  int input_height, input_width;
  int top, left, height, width;

  static Letterbox fit(int frame_height, int frame_width, int input_height, int input_width) {
    const double scale = std::min(static_cast<double>(input_height) / frame_height,
                                  static_cast<double>(input_width) / frame_width);
    const auto side = [scale](int frame, int input) {
      return std::max(1, std::min(input, static_cast<int>(std::nearbyint(frame * scale))));
    };
    const int height = side(frame_height, input_height), width = side(frame_width, input_width);
    return {frame_height,
            frame_width,
            input_height,
            input_width,
            (input_height - height) / 2,
            (input_width - width) / 2,
            height,
            width};
  }

  // The network input: (input_height, input_width), the frame's channels.
  Image<std::uint8_t> apply(Image<std::uint8_t> const& frame) const {
    Image<std::uint8_t> small(height, width, frame.channels);
    if (height < frame.height)
      detail::resize_area(frame, small);
    else
      detail::resize_linear(frame, small);
    Image<std::uint8_t> input(input_height, input_width, frame.channels);
    for (int y = 0; y < height; ++y)
      std::copy_n(small.row(y), width * frame.channels, input.row(top + y) + left * frame.channels);
    return input;
  }

  // One plane of the network's output (input_height, input_width), at the frame's resolution.
  Image<float> restore(float const* plane) const {
    Image<float> inside(height, width, 1);
    for (int y = 0; y < height; ++y)
      std::copy_n(plane + static_cast<std::size_t>(top + y) * input_width + left, width,
                  inside.row(y));
    Image<float> whole(frame_height, frame_width, 1);
    detail::resize_linear(inside, whole);
    return whole;
  }
};

// Class labels from one plane a class; with several, class 0 is the background. A foreground class
// has to reach `confidence`.
inline Image<std::uint8_t> to_mask(std::vector<Image<float>> const& planes, float confidence) {
  Image<std::uint8_t> mask(planes[0].height, planes[0].width, 1);
  for (std::size_t i = 0; i < mask.data.size(); ++i) {
    if (planes.size() == 1) {
      mask.data[i] = planes[0].data[i] >= confidence;
      continue;
    }
    std::size_t best = 1;
    for (std::size_t label = 2; label < planes.size(); ++label)
      if (planes[label].data[i] > planes[best].data[i]) best = label;
    const float probability = planes[best].data[i];
    if (probability >= confidence && probability > planes[0].data[i])
      mask.data[i] = static_cast<std::uint8_t>(best);
  }
  return mask;
}

}  // namespace rwkv_edge
