// SPDX-License-Identifier: MIT
#include "compare.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace example {

using polymac::model::element_type;
using polymac::model::load_little_endian;

void count_mismatches(row& r, std::span<const std::byte> actual, std::span<const std::byte> expected,
                      element_type type) {
  std::size_t count = 0;
  if (type != element_type::float32) {
    const std::size_t width = static_cast<std::size_t>(polymac::model::bytes_of(type, 1));
    for (std::size_t i = 0; i + width <= expected.size(); i += width)
      count += std::memcmp(actual.data() + i, expected.data() + i, width) != 0;
  } else {
    const tensor plain{};
    const std::vector<float> got = reals(actual, plain), wanted = reals(expected, plain);
    double largest = 0, worst = 0;
    for (const float w : wanted) largest = std::max(largest, std::abs(double{w}));
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const double difference = std::abs(double{got[i]} - double{wanted[i]});
      count += !(difference <= float_tolerance * largest);  // NaN differs
      worst = std::max(worst, difference);
    }
    r.difference = std::max(r.difference.value_or(0), largest > 0 ? worst / largest : worst);
  }
  r.mismatches = r.mismatches.value_or(0) + count;
}

std::size_t count_correct(std::span<const std::byte> values, const tensor& info, std::span<const std::byte> labels) {
  const std::vector<float> all = reals(values, info);
  const std::size_t classes = labels.empty() ? 0 : all.size() / labels.size();
  std::size_t correct = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const float* first = all.data() + i * classes;
    const auto answer = static_cast<std::size_t>(std::max_element(first, first + classes) - first);
    correct += answer == std::to_integer<std::size_t>(labels[i]);
  }
  return correct;
}

std::vector<float> reals(std::span<const std::byte> values, const tensor& info) {
  const bool codes = info.type == element_type::int8;
  std::vector<float> all(codes ? values.size() : values.size() / sizeof(float));
  for (std::size_t i = 0; i < all.size(); ++i)
    all[i] = codes ? info.quantized.scale * static_cast<float>(load_little_endian<std::int8_t>(values.data() + i) -
                                                               info.quantized.zero_point)
                   : load_little_endian<float>(values.data() + i * sizeof(float));
  return all;
}

bytes bytes_of(std::span<const float> values) {
  const auto raw = std::as_bytes(values);
  return bytes(raw.begin(), raw.end());
}

}  // namespace example
