// SPDX-License-Identifier: MIT
// A number that tells the states of one layer from those of another, and damaged bytes from others.
#pragma once

#include "polymac/core/config.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// FNV-1a over values (Fowler, Noll, Vo). Integers count with 64 bits, whatever their type; others with their bytes.
class signature {
 public:
  template <class T>
  constexpr void add(const T& value) noexcept {
    if constexpr (std::is_integral_v<T>) {
      auto bits = static_cast<std::uint64_t>(value);
      for (int i = 0; i < 8; ++i, bits >>= 8) add_byte(static_cast<unsigned char>(bits & 0xFF));
    } else {
      static_assert(std::is_trivially_copyable_v<T>);
      unsigned char bytes[sizeof(T)];
      std::memcpy(bytes, &value, sizeof(T));
      for (const unsigned char b : bytes) add_byte(b);
    }
  }
  constexpr void add_text(const char* text) noexcept {
    for (; *text != 0; ++text) add_byte(static_cast<unsigned char>(*text));
  }
  void add_bytes(const void* from, std::size_t count) noexcept {
    const auto* const bytes = static_cast<const unsigned char*>(from);
    for (std::size_t i = 0; i < count; ++i) add_byte(bytes[i]);
  }
  constexpr std::uint64_t value() const noexcept { return hash_; }

 private:
  constexpr void add_byte(unsigned char b) noexcept { hash_ = (hash_ ^ b) * 0x100000001B3u; }
  std::uint64_t hash_ = 0xCBF29CE484222325u;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
