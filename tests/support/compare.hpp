// SPDX-License-Identifier: MIT
// Says where two results differ: how many values, the first one, and how far apart.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

namespace polymac_test {

namespace detail {
template <class Expected, class Actual, class Same>
std::string describe_difference(const Expected& expected, const Actual& actual, Same&& same) {
  std::ostringstream text;
  if (expected.size() != actual.size()) {
    text << "expected " << expected.size() << " values, got " << actual.size();
    return text.str();
  }
  std::size_t count = 0, first = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    if (!same(expected[i], actual[i]) && count++ == 0) first = i;
  if (count > 0)
    text << count << " of " << expected.size() << " values differ, the first at " << first << ": expected "
         << +expected[first] << ", got " << +actual[first];
  return text.str();
}
}  // namespace detail

/// Empty where all values are equal; else a sentence.
template <class Expected, class Actual>
std::string difference(const Expected& expected, const Actual& actual) {
  return detail::describe_difference(expected, actual, [](auto e, auto a) {
    if constexpr (std::is_floating_point_v<decltype(e)> || std::is_floating_point_v<decltype(a)>)
      return static_cast<double>(e) == static_cast<double>(a);
    else
      return e == a;
  });
}

/// The same for floats: |actual - expected| may be `relative` of the expected value, or `absolute` where that is more.
/// Two infinities of one sign, and two NaN, are equal.
template <class Expected, class Actual>
std::string difference(const Expected& expected, const Actual& actual, double relative, double absolute) {
  return detail::describe_difference(expected, actual, [=](auto e, auto a) {
    const double x = static_cast<double>(e), y = static_cast<double>(a);
    if (x == y || (std::isnan(x) && std::isnan(y))) return true;
    return std::abs(x - y) <= std::max(absolute, relative * std::abs(x));
  });
}

/// Have both the same floats, bit by bit?
inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](float x, float y) {
    return std::bit_cast<std::uint32_t>(x) == std::bit_cast<std::uint32_t>(y);
  });
}

}  // namespace polymac_test
