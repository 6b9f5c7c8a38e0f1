// SPDX-License-Identifier: MIT
// A short text in a fixed array: no heap, no locale, no stdio. What statuses and explanations are made of.
#pragma once

#include "polymac/core/config.hpp"

#include <concepts>
#include <cstddef>
#include <string_view>
#include <type_traits>

namespace polymac {

/// At most Capacity characters, always ended by a zero; what does not fit is cut. Trivially copyable.
template <std::size_t Capacity>
class text {
 public:
  // Zeroing all of it in every status that says "ok" would take as long as the product of two small matrices.
  constexpr text() noexcept {
    if (std::is_constant_evaluated())
      for (char& c : characters_) c = '\0';
    characters_[0] = '\0';
  }
  /// Joins pieces: strings, characters and integers.
  template <class... Pieces>
  static constexpr text join(const Pieces&... pieces) noexcept {
    text t;
    (t.append(pieces), ...);
    return t;
  }

  constexpr std::string_view view() const noexcept { return {characters_, length_}; }
  constexpr const char* c_str() const noexcept { return characters_; }

  constexpr void append(std::string_view piece) noexcept {
    for (const char c : piece) append(c);
  }
  constexpr void append(const char* piece) noexcept { append(std::string_view(piece)); }
  constexpr void append(char c) noexcept {
    if (length_ == Capacity) return;
    characters_[length_++] = c;
    characters_[length_] = '\0';
  }
  template <std::integral Integer>
  requires(!std::same_as<Integer, char>) constexpr void append(Integer value) noexcept {
    char digits[24]{};
    std::size_t n = 0;
    const bool negative = value < Integer{};
    do {
      const int digit = static_cast<int>(value % 10);
      digits[n++] = static_cast<char>('0' + (digit < 0 ? -digit : digit));
      value = static_cast<Integer>(value / 10);
    } while (value != 0);
    if (negative) append('-');
    while (n > 0) append(digits[--n]);
  }

 private:
  /// A byte where that is enough: code, length and the zero of a status that says "ok" are one store then.
  std::conditional_t<(Capacity < 256), unsigned char, std::size_t> length_ = 0;
  char characters_[Capacity + 1];  ///< up to the zero
};

}  // namespace polymac
