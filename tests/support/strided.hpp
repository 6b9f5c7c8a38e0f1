// SPDX-License-Identifier: MIT
// Matrices and images with gaps between rows, pixels, lines and images, beginning one element past an aligned address.
// It can be checked that nobody wrote into the gaps.
#pragma once

#include "support/random.hpp"

#include <polymac/core/view.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <vector>

namespace polymac_test {

/// The memory below a view, its bytes set to a pattern at the beginning.
template <class T, class View>
class strided {
 public:
  strided(const strided&) = delete;
  strided& operator=(const strided&) = delete;

  /// What the view sees, in the order of a dense one.
  std::size_t size() const { return seen_.size(); }
  T& operator[](std::size_t i) { return *seen_[i]; }
  const T& operator[](std::size_t i) const { return *seen_[i]; }
  void assign(const std::vector<T>& values) {
    for (std::size_t i = 0; i < size(); ++i) *seen_[i] = values.at(i);
  }
  View& view() { return view_; }
  const View& view() const { return view_; }

  bool untouched(std::size_t i) const { return is_pattern(seen_[i]); }
  bool gaps_untouched() const {
    std::vector<bool> gap(memory_.size(), true);
    for (const T* p : seen_) gap[static_cast<std::size_t>(p - memory_.data())] = false;
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if (gap[i] && !is_pattern(&memory_[i])) return false;
    return true;
  }

 protected:
  strided() = default;
  void allocate(std::size_t span) {
    memory_.resize(span + 2);
    std::memset(static_cast<void*>(memory_.data()), pattern, memory_.size() * sizeof(T));
    view_.data = memory_.data() + 1;
  }
  void sees(T& value) { seen_.push_back(&value); }

  View view_{};

 private:
  static constexpr unsigned char pattern = 0x5A;
  static bool is_pattern(const T* value) {
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, value, sizeof(T));
    return std::all_of(bytes, bytes + sizeof(T), [](unsigned char b) { return b == pattern; });
  }
  std::vector<T> memory_;
  std::vector<T*> seen_;
};

template <class T>
struct strided_matrix : strided<T, polymac::matrix_view<T>> {
  strided_matrix(std::size_t rows, std::size_t columns, std::size_t gap) {
    this->view_ = {nullptr, rows, columns, columns + gap};
    this->allocate(rows == 0 ? 0 : (rows - 1) * (columns + gap) + columns);
    for (std::size_t r = 0; r < rows; ++r)
      for (std::size_t c = 0; c < columns; ++c) this->sees(this->view_(r, c));
  }
};

/// Elements that lie unused behind every pixel, line and image.
struct gaps {
  std::size_t pixel = 0, line = 0, image = 0;
  gaps() = default;
  gaps(std::size_t p, std::size_t l, std::size_t i) : pixel(p), line(l), image(i) {}
  /// Dense one time in two.
  explicit gaps(random_source& random) {
    if (random.integer(0, 1) == 0) return;
    pixel = static_cast<std::size_t>(random.integer(0, 2));
    line = static_cast<std::size_t>(random.integer(0, 3));
    image = static_cast<std::size_t>(random.integer(0, 5));
  }
};

template <class T>
struct strided_image : strided<T, polymac::image_view<T>> {
  strided_image(std::size_t batch, std::size_t height, std::size_t width, std::size_t channels, const gaps& gap) {
    const std::size_t pixel = channels + gap.pixel;
    const std::size_t line = width * pixel + gap.line;
    const std::size_t image = height * line + gap.image;
    this->view_ = {nullptr, batch, height, width, channels, pixel, line, image};
    // Ends with the last channel: there is no gap behind the last pixel.
    this->allocate(batch == 0 ? 0 : (batch - 1) * image + (height - 1) * line + (width - 1) * pixel + channels);
    for (std::size_t n = 0; n < batch; ++n)
      for (std::size_t y = 0; y < height; ++y)
        for (std::size_t x = 0; x < width; ++x)
          for (std::size_t c = 0; c < channels; ++c) this->sees(this->view_(n, y, x, c));
  }
};

}  // namespace polymac_test
