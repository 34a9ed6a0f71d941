// Pictures without a library: binary PPM (P6) in, binary PGM (P5) out.
#pragma once

#include <cctype>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <ios>
#include <stdexcept>
#include <string>
#include <utility>

#include "letterbox.h"

namespace rwkv_edge {

namespace detail {

// The next number of a PPM's header; a comment runs from # to the end of its line.
inline int read_number(std::istream& file) {
  int next = file.get();
  while (std::isspace(next) || next == '#') {
    while (next == '#' && file && file.get() != '\n') continue;
    next = file.get();
  }
  int value = 0;
  if (!std::isdigit(next)) return -1;
  for (; std::isdigit(next); next = file.get()) {
    if (value > 100000) return -1;
    value = 10 * value + (next - '0');
  }
  return value;  // exactly one blank behind the number was read too
}

}  // namespace detail

// Reads red, green, blue and returns blue, green, red.
inline Image<std::uint8_t> read_ppm(std::string const& path) {
  constexpr int kLeastSide = 8, kMostSide = 16384;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  char kind[2] = {};
  file.read(kind, 2);
  if (kind[0] != 'P' || kind[1] != '6')
    throw std::runtime_error(path + ": not a binary PPM; ffmpeg -i picture.jpg picture.ppm");
  const int width = detail::read_number(file), height = detail::read_number(file);
  const int most = detail::read_number(file);
  if (most != 255) throw std::runtime_error(path + ": not 8 bits a channel");
  for (int side : {height, width})
    if (side < kLeastSide || side > kMostSide)
      throw std::runtime_error(path + ": sides must be of 8 to 16384 pixels");
  Image<std::uint8_t> image(height, width, 3);
  file.read(reinterpret_cast<char*>(image.data.data()),
            static_cast<std::streamsize>(image.data.size()));
  if (!file) throw std::runtime_error(path + ": ends too early");
  for (std::size_t i = 0; i < image.data.size(); i += 3)
    std::swap(image.data[i], image.data[i + 2]);
  return image;
}

// Writes the whole file or none: to a temporary name beside it first.
inline void write_pgm(std::string const& path, Image<std::uint8_t> const& image) {
  const std::string temporary = path + ".part";
  std::ofstream file(temporary, std::ios::binary);
  file << "P5\n" << image.width << ' ' << image.height << "\n255\n";
  file.write(reinterpret_cast<char const*>(image.data.data()),
             static_cast<std::streamsize>(image.data.size()));
  file.close();
  if (!file || std::rename(temporary.c_str(), path.c_str()) != 0) {
    std::remove(temporary.c_str());
    throw std::runtime_error(path + ": cannot be written");
  }
}

}  // namespace rwkv_edge
