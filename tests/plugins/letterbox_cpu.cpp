// plugins/examples/letterbox.h and pnm.h for Python; built and called by test_examples.py.

#include <algorithm>
#include <cstdio>
#include <exception>

#include "letterbox.h"
#include "pnm.h"

using namespace rwkv_edge;

namespace {

char message[512];

template <class T>
Image<T> image_of(T const* data, int height, int width, int channels) {
  Image<T> image(height, width, channels);
  std::copy_n(data, image.data.size(), image.data.begin());
  return image;
}

}  // namespace

extern "C" {

// box: top, left, height, width.
void apply(std::uint8_t const* frame, int height, int width, int input_height, int input_width,
           std::uint8_t* input, int* box) {
  const Letterbox letterbox = Letterbox::fit(height, width, input_height, input_width);
  const Image<std::uint8_t> result = letterbox.apply(image_of(frame, height, width, 3));
  std::copy(result.data.begin(), result.data.end(), input);
  const int values[] = {letterbox.top, letterbox.left, letterbox.height, letterbox.width};
  std::copy_n(values, 4, box);
}

void restore(float const* plane, int input_height, int input_width, int height, int width,
             float* result) {
  const Letterbox letterbox = Letterbox::fit(height, width, input_height, input_width);
  const Image<float> image = letterbox.restore(plane);
  std::copy(image.data.begin(), image.data.end(), result);
}

void mask(float const* planes, int classes, int pixels, float confidence, std::uint8_t* result) {
  std::vector<Image<float>> all;
  for (int label = 0; label < classes; ++label)
    all.push_back(image_of(planes + static_cast<std::size_t>(label) * pixels, 1, pixels, 1));
  const Image<std::uint8_t> image = to_mask(all, confidence);
  std::copy(image.data.begin(), image.data.end(), result);
}

// The message of what went wrong, or null. `pixels` holds what the caller expects.
char const* ppm_to_pgm(char const* from, char const* to, std::uint8_t* pixels, int* sides) {
  try {
    const Image<std::uint8_t> image = read_ppm(from);
    sides[0] = image.height, sides[1] = image.width;
    std::copy(image.data.begin(), image.data.end(), pixels);
    Image<std::uint8_t> blue(image.height, image.width, 1);
    for (std::size_t i = 0; i < blue.data.size(); ++i) blue.data[i] = image.data[3 * i];
    write_pgm(to, blue);
  } catch (std::exception const& error) {
    std::snprintf(message, sizeof message, "%s", error.what());
    return message;
  }
  return nullptr;
}

}  // extern "C"
