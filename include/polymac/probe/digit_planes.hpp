// SPDX-License-Identifier: MIT
// Multiply-accumulate hardware that takes numbers digit by digit, as a model that runs: Wu et al., Exploring the
// bit-weight dimension of matrix products, HPCA 2025 (OPT1 to OPT4). Not fast; it says what such hardware would compute
// and in how many cycles.
//
//     sums[n] = sum over k of a[k] b[n][k] = sum over digits i of radix^i * sum over k of d_i(a[k]) b[n][k]
//
//                 digits of a      what happens in a cycle                                        full adders
//     opt1        all at once      all partial products of one k join (sum, carry)                one, at the end
//     opt2        all at once      16 k: a narrow tree per digit, then shifted into (sum, carry)  one, at the end
//     opt3        plane by plane   one digit that is not zero, of four k at a time; at least one  one per plane
//                                  cycle for them; accumulators of 26 bits
//     opt4c       as opt3          the same, encoders shared by all columns                       one per plane
//     opt4e       as opt3, four    four digits, one of each lane of four k (16 k at a time), with one per plane
//                 lanes            a 6:2 compressor; the lane with the most digits says how long
//
// Columns work side by side on the same a, so cycles do not grow with them. How the lanes of opt4e wait for each other
// is our reading; the paper gives only the compressor.
#pragma once

#include "polymac/core/digits.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace probe {

/// An accumulator of `Bits` bits that never propagates a carry: a sum and a carry word, each new operand compressed
/// into them (3:2), modulo 2^Bits.
template <int Bits>
class carry_save {
  static_assert(Bits >= 2 && Bits <= 32, "polymac: carry-save accumulators have 2 to 32 bits");
  static constexpr std::uint32_t mask = Bits == 32 ? ~0u : (1u << (Bits % 32)) - 1u;

 public:
  constexpr void add(std::int32_t x) noexcept {
    const std::uint32_t v = static_cast<std::uint32_t>(x) & mask;
    const std::uint32_t s = sum_ ^ carry_ ^ v, c = (sum_ & carry_) | (sum_ & v) | (carry_ & v);
    sum_ = s;
    carry_ = c << 1 & mask;
  }
  /// The full addition, sign extended.
  constexpr std::int32_t value() const noexcept {
    const std::uint32_t all = (sum_ + carry_) & mask, top = 1u << (Bits - 1);
    return static_cast<std::int32_t>((all ^ top) - top);
  }

 private:
  std::uint32_t sum_ = 0, carry_ = 0;
};

/// What a run took.
struct digit_work {
  std::uint64_t cycles = 0;
  std::uint64_t encodings = 0;  ///< of an operand into its digits, all encoders together
  std::uint64_t additions = 0;  ///< full ones, with a carry that propagates, all columns together
};

/// The models, for an encoding of `a`. Each takes a of `depth` values and b of columns x depth, writes the exact sums,
/// one per column, and returns the work. Refuses extents that do not fit and depths above `max_depth`.
template <digits::Encoding E>
class digit_planes {
  static constexpr std::size_t planes = E::count(8);
  static constexpr int plane_bits = E::radix == 4 ? 2 : 1;
  static_assert(E::radix == 2 || E::radix == 4, "polymac: digit planes are those of radix 2 or 4");

 public:
  /// |digit * b| <= 256, in 26 bits.
  static constexpr std::size_t max_depth = (std::size_t{1} << 17) - 1;
  using values = std::span<const std::int8_t>;
  using columns = matrix_view<const std::int8_t>;

  static result<digit_work> opt1(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (const status s = check(a, b, sums); !s.ok()) return s;
    for (std::size_t n = 0; n < b.rows; ++n) {
      carry_save<32> total;
      for (std::size_t k = 0; k < a.size(); ++k) {
        const auto d = E::expand(a[k], 8);
        for (std::size_t i = 0; i < planes; ++i) total.add(shifted(partial_product(d[i], b(n, k)), i));
      }
      sums[n] = total.value();
    }
    return digit_work{a.size(), a.size() * b.rows, b.rows};
  }

  static result<digit_work> opt2(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (const status s = check(a, b, sums); !s.ok()) return s;
    for (std::size_t n = 0; n < b.rows; ++n) {
      carry_save<32> total;
      for (std::size_t k = 0; k < a.size(); k += tree_rows)
        for (std::size_t i = 0; i < planes; ++i) {
          // 13 bits in the paper; all 16 products at (-2)(-128) need one more.
          carry_save<14> tree;
          for (std::size_t j = k; j < a.size() && j < k + tree_rows; ++j)
            tree.add(partial_product(E::expand(a[j], 8)[i], b(n, j)));
          total.add(shifted(tree.value(), i));
        }
      sums[n] = total.value();
    }
    return digit_work{groups_of(a.size(), tree_rows), a.size() * b.rows, b.rows};
  }

  static result<digit_work> opt3(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (const status s = check(a, b, sums); !s.ok()) return s;
    add_planes(a, b, sums);
    return digit_work{sparse_cycles(a, 1), planes * a.size() * b.rows, planes * b.rows};
  }
  static result<digit_work> opt4c(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (const status s = check(a, b, sums); !s.ok()) return s;
    add_planes(a, b, sums);
    return digit_work{sparse_cycles(a, 1), planes * a.size(), planes * b.rows};
  }
  static result<digit_work> opt4e(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (const status s = check(a, b, sums); !s.ok()) return s;
    add_planes(a, b, sums);
    return digit_work{sparse_cycles(a, 4), planes * a.size(), planes * b.rows};
  }

 private:
  static constexpr std::size_t tree_rows = 16;
  static constexpr std::size_t operands = 4;  ///< of one sparse encoder at a time

  static status check(values a, columns b, std::span<std::int32_t> sums) noexcept {
    if (b.columns != a.size() || sums.size() != b.rows)
      return status::make(errc::shape, "digit_planes: expected b of ", sums.size(), " x ", a.size(), ", got ", b.rows,
                          " x ", b.columns);
    if (a.size() > max_depth)
      return status::make(errc::shape, "digit_planes: expected a depth of at most ", max_depth, ", got ", a.size());
    return {};
  }
  static constexpr std::size_t groups_of(std::size_t count, std::size_t size) noexcept {
    return (count + size - 1) / size;
  }
  /// digit * b as hardware has it: b, shifted by one or not, negated or not, or nothing.
  static constexpr std::int32_t partial_product(int digit, std::int32_t b) noexcept {
    const std::int32_t magnitude = digit == 2 || digit == -2 ? b + b : digit == 0 ? 0 : b;
    return digit < 0 ? -magnitude : magnitude;
  }
  static constexpr std::int32_t shifted(std::int32_t v, std::size_t plane) noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(v) << (static_cast<int>(plane) * plane_bits));
  }

  /// Planes outermost, accumulators of 26 bits, one full addition for each plane. Which digits share a cycle makes no
  /// difference to the sums.
  static void add_planes(values a, columns b, std::span<std::int32_t> sums) noexcept {
    for (std::size_t n = 0; n < b.rows; ++n) {
      std::uint32_t total = 0;
      for (std::size_t i = 0; i < planes; ++i) {
        carry_save<26> plane;
        for (std::size_t k = 0; k < a.size(); ++k) {
          const int digit = E::expand(a[k], 8)[i];
          if (digit != 0) plane.add(partial_product(digit, b(n, k)));
        }
        total += static_cast<std::uint32_t>(shifted(plane.value(), i));
      }
      sums[n] = static_cast<std::int32_t>(total);
    }
  }
  /// For each plane, `lanes` encoders with four operands each: the most digits that one of them has, at least one
  /// cycle.
  static std::uint64_t sparse_cycles(values a, std::size_t lanes) noexcept {
    std::uint64_t cycles = 0;
    for (std::size_t i = 0; i < planes; ++i)
      for (std::size_t k = 0; k < a.size(); k += lanes * operands) {
        std::uint64_t most = 1;
        for (std::size_t lane = k; lane < a.size() && lane < k + lanes * operands; lane += operands) {
          std::uint64_t count = 0;
          for (std::size_t j = lane; j < a.size() && j < lane + operands; ++j) count += E::expand(a[j], 8)[i] != 0;
          most = count > most ? count : most;
        }
        cycles += most;
      }
    return cycles;
  }
};

}  // namespace probe
POLYMAC_END
