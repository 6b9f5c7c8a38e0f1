// SPDX-License-Identifier: MIT
// What a network says about one tensor: element type, shape, quantisation, and the bytes of a constant.
#pragma once

#include "polymac/core/error.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// Type of the elements of a tensor. `int4` is signed and stored two per byte, the first in the low half.
enum class element_type : unsigned char { float32, float16, int4, int8, uint8, int16, int32, int64, boolean };

constexpr std::string_view name(element_type type) noexcept {
  constexpr std::array<std::string_view, 9> names{"float32", "float16", "int4",  "int8",   "uint8",
                                                  "int16",   "int32",   "int64", "boolean"};
  return names[static_cast<std::size_t>(type)];
}

/// Size of one element in bits.
constexpr std::uint64_t bits(element_type type) noexcept {
  constexpr std::array<std::uint64_t, 9> sizes{32, 16, 4, 8, 8, 16, 32, 64, 8};
  return sizes[static_cast<std::size_t>(type)];
}

/// Bytes of `count` elements, count <= 2^57. An odd number of int4 elements ends in half a byte, which counts whole.
constexpr std::uint64_t bytes_of(element_type type, std::uint64_t count) noexcept {
  return (count * bits(type) + 7) / 8;
}

/// Range of the codes of an integer type; {0, 0} for the others.
constexpr std::pair<std::int64_t, std::int64_t> code_range(element_type type) noexcept {
  switch (type) {
    case element_type::int4:
      return {-8, 7};
    case element_type::int8:
      return {-128, 127};
    case element_type::uint8:
      return {0, 255};
    case element_type::int16:
      return {-32768, 32767};
    case element_type::int32:
      return {std::numeric_limits<std::int32_t>::min(), std::numeric_limits<std::int32_t>::max()};
    default:
      return {0, 0};
  }
}

/// Extents of a tensor, outermost first; images are batch, height, width, channels (NHWC). Rank 0 is a single element.
struct tensor_shape {
  static constexpr std::size_t max_rank = 6;
  /// More elements than this in one tensor are taken for a damaged file.
  static constexpr std::uint64_t max_elements = std::uint64_t{1} << 31;

  std::array<std::size_t, max_rank> extents{};
  std::size_t rank = 0;

  constexpr tensor_shape() noexcept = default;
  template <class... Extents>
  requires(sizeof...(Extents) > 0 && sizeof...(Extents) <= max_rank &&
           (std::is_integral_v<Extents> && ...)) constexpr explicit tensor_shape(Extents... e) noexcept
      : extents{static_cast<std::size_t>(e)...}, rank(sizeof...(Extents)) {}

  constexpr std::size_t operator[](std::size_t i) const noexcept { return extents[i]; }
  /// Innermost extent; 1 for rank 0.
  constexpr std::size_t last() const noexcept { return rank == 0 ? 1 : extents[rank - 1]; }

  /// Number of elements, or `max_elements + 1` where there are more than `max_elements`.
  constexpr std::uint64_t elements() const noexcept {
    std::uint64_t product = 1;
    for (std::size_t i = 0; i < rank; ++i) {
      const std::uint64_t extent = extents[i];
      if (extent != 0 && product > max_elements / extent) return max_elements + 1;
      product *= extent;
    }
    return product;
  }

  friend constexpr bool operator==(const tensor_shape& a, const tensor_shape& b) noexcept {
    return a.rank == b.rank && std::equal(a.extents.begin(), a.extents.begin() + a.rank, b.extents.begin());
  }
};

/// Extents of an image batch.
struct nhwc_extents {
  std::size_t batch = 1;
  std::size_t height = 1;
  std::size_t width = 1;
  std::size_t channels = 1;
};

/// The last four extents; missing outer ones are 1. Further outer extents (rank 5 and 6) are multiplied into the batch.
constexpr nhwc_extents as_nhwc(const tensor_shape& s) noexcept {
  const auto from_end = [&s](std::size_t i) { return i < s.rank ? s.extents[s.rank - 1 - i] : std::size_t{1}; };
  return {from_end(3) * from_end(4) * from_end(5), from_end(2), from_end(1), from_end(0)};
}

/// A shape as text, for example `[1, 32, 32, 3]`; a piece of `status::make`.
class shape_text {
 public:
  constexpr explicit shape_text(const tensor_shape& s) noexcept {
    text_.append('[');
    for (std::size_t i = 0; i < s.rank; ++i) {
      if (i > 0) text_.append(", ");
      text_.append(s.extents[i]);
    }
    text_.append(']');
  }
  constexpr operator std::string_view() const noexcept { return text_.text(); }  // NOLINT: implicit by design

 private:
  status text_;
};

/// Affine quantisation: real = scale * (code - zero_point). No scale: the tensor is not quantised. One: it holds for
/// the whole tensor. Several: one for each index along `axis`.
struct quantization {
  std::vector<float> scales;              ///< finite and > 0
  std::vector<std::int32_t> zero_points;  ///< as many as `scales`, inside the range of the type
  std::size_t axis = 0;

  bool present() const noexcept { return !scales.empty(); }
  bool per_tensor() const noexcept { return scales.size() == 1; }
  bool per_axis() const noexcept { return scales.size() > 1; }
  /// Scale of index `i` along the axis; the only one where there is one for the tensor. Needs `present()`.
  float scale(std::size_t i = 0) const noexcept { return per_axis() ? scales[i] : scales[0]; }
  std::int32_t zero_point(std::size_t i = 0) const noexcept { return per_axis() ? zero_points[i] : zero_points[0]; }
};

/// One tensor of a graph.
struct tensor_info {
  std::string name;
  element_type type = element_type::float32;
  tensor_shape shape;
  quantization quantized;
  /// Elements of a constant, little-endian, at any alignment, in memory of the caller (the bytes of the file). Empty
  /// for a tensor that is computed.
  std::span<const std::byte> data;

  bool is_constant() const noexcept { return !data.empty(); }
};

/// The value at `bytes`, stored little-endian at any alignment.
template <class T>
requires(std::is_arithmetic_v<T>) T load_little_endian(const std::byte* bytes)
noexcept {
  std::array<std::byte, sizeof(T)> raw;
  std::memcpy(raw.data(), bytes, sizeof(T));
  if constexpr (std::endian::native == std::endian::big) std::reverse(raw.begin(), raw.end());
  T value;
  std::memcpy(&value, raw.data(), sizeof(T));
  return value;
}

/// The element type that C++ type T reads: float, (u)int8_t, int16_t, int32_t, int64_t.
template <class T>
constexpr element_type element_type_of() noexcept {
  if constexpr (std::is_same_v<T, float>)
    return element_type::float32;
  else if constexpr (std::is_same_v<T, std::int8_t>)
    return element_type::int8;
  else if constexpr (std::is_same_v<T, std::uint8_t>)
    return element_type::uint8;
  else if constexpr (std::is_same_v<T, std::int16_t>)
    return element_type::int16;
  else if constexpr (std::is_same_v<T, std::int32_t>)
    return element_type::int32;
  else {
    static_assert(std::is_same_v<T, std::int64_t>, "polymac: constants are read as float or as a fixed-width integer");
    return element_type::int64;
  }
}

/// Elements of a constant as they are stored, without a copy. One-byte elements only, since others may be unaligned.
/// Empty where the tensor is computed or of another type.
template <class T>
requires(sizeof(T) == 1) std::span<const T> constant_span(const tensor_info& t)
noexcept {
  if (t.type != element_type_of<T>()) return {};
  return {reinterpret_cast<const T*>(t.data.data()), t.data.size()};
}

/// A copy of the elements of a constant of type T. `std::int8_t` also reads an int4 tensor, one value per element.
/// Needs a tensor whose data has the size of its shape, as `validate` has checked. Errors: not constant, another type.
template <class T>
result<std::vector<T>> constant_values(const tensor_info& t) {
  if (!t.is_constant())
    return status::make(errc::unsupported, "tensor '", t.name, "': expected a constant, got a computed tensor");
  const bool nibbles = std::is_same_v<T, std::int8_t> && t.type == element_type::int4;
  if (t.type != element_type_of<T>() && !nibbles)
    return status::make(errc::unsupported, "tensor '", t.name, "': expected type ", name(element_type_of<T>()),
                        ", got ", name(t.type));
  const auto count = static_cast<std::size_t>(t.shape.elements());
  if (t.data.size() != bytes_of(t.type, count))
    return status::make(errc::corrupt, "tensor '", t.name, "': expected ", bytes_of(t.type, count), " bytes, got ",
                        t.data.size());
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    if (nibbles) {
      const int code = (std::to_integer<int>(t.data[i / 2]) >> (i % 2 == 0 ? 0 : 4)) & 15;
      values[i] = static_cast<T>(code < 8 ? code : code - 16);
    } else {
      values[i] = load_little_endian<T>(t.data.data() + i * sizeof(T));
    }
  }
  return values;
}

/// A copy of the elements of an int32 or int64 constant: axes, paddings, shapes. Errors as `constant_values`.
inline result<std::vector<std::int64_t>> constant_integers(const tensor_info& t) {
  if (t.type == element_type::int64) return constant_values<std::int64_t>(t);
  auto narrow = constant_values<std::int32_t>(t);
  if (!narrow) return narrow.status();
  return std::vector<std::int64_t>(narrow->begin(), narrow->end());
}

}  // namespace model
POLYMAC_END
