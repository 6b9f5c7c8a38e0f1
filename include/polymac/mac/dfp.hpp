// SPDX-License-Identifier: MIT
// Dynamic fixed point: integer products, chains of them in 32 bits, sums of the chains in IEEE single precision.
#pragma once

#include "polymac/core/concepts.hpp"
#include "polymac/core/dynamic_fixed_point.hpp"
#include "polymac/core/text.hpp"
#include "polymac/mac/int8.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace isa {
struct arithmetic_atoms;
}

namespace mac {

/// What the length of a chain rests on.
struct guaranteed_chain;   ///< no chain overflows, whatever the codes
struct statistical_chain;  ///< chains of ordinary data do not overflow; others wrap modulo 2^32

namespace detail {

/// Products of codes that fit 32 bits whatever they are. Words: codes in [-limit, limit]; of bytes every value with the
/// upper `Shift` bits empty, -128 included.
template <class Storage, int Shift>
consteval std::size_t safe_chain() {
  constexpr std::int64_t limit = dynamic_fixed_point::format<Storage, Shift>::limit;
  constexpr std::int64_t magnitude = sizeof(Storage) == 1 ? limit + 1 : limit;
  return static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max() / (magnitude * magnitude));
}

}  // namespace detail

namespace detail {

/// What both forms of dfp share.
template <class Storage, int Shift, std::size_t Chain, class Promise>
struct dfp_codes {
  using format = dynamic_fixed_point::format<Storage, Shift>;
  using activation = Storage;
  using weight = Storage;
  using atoms = isa::arithmetic_atoms;
  static constexpr bool linear = true;
  static constexpr bool weight_linear = true;
  /// No chain of codes overflows.
  static constexpr bool is_guaranteed = Chain <= safe_chain<Storage, Shift>();
  static_assert(Chain >= 1, "polymac: a chain of dynamic fixed point has at least one product");
  static_assert(is_guaranteed || std::is_same_v<Promise, statistical_chain>,
                "polymac: this chain of dynamic fixed point can overflow: leave `Chain` out, take a larger Shift, or "
                "accept it by name with mac::dfp_statistical");

 private:
  static constexpr text<47> make_name() noexcept {
    auto t = text<47>::join("dfp", format::bits);
    if (Shift != (sizeof(Storage) == 2 ? 2 : 0)) t = text<47>::join(t.c_str(), "_shift", Shift);
    return is_guaranteed ? t : text<47>::join(t.c_str(), "_statistical");
  }
  static constexpr text<47> name_ = make_name();

 public:
  static constexpr const char* name = name_.c_str();

  /// Is the weight a code?
  static constexpr bool check_weight(weight w) noexcept { return w >= -format::limit && w <= format::limit; }
  /// Factor of the sums, for epilogue::scale.
  static constexpr float scale(int exponent_a, int exponent_w) noexcept {
    return dynamic_fixed_point::product_scale(exponent_a, exponent_w);
  }
  /// As dynamic_fixed_point::format: codes and the exponent; also with a third argument, a rounding or a generator.
  template <class... How>
  static result<int> encode(std::span<const float> values, std::span<Storage> codes, How&&... how) {
    return format::encode(values, codes, how...);
  }
  static status decode(std::span<const Storage> codes, int exponent, std::span<float> values) noexcept {
    return format::decode(codes, exponent, values);
  }

  /// Bound of |computed - exact| for a sum of `depth` products (or chains) with the given sum of magnitudes of the
  /// codes' products, bias included. No bound for statistical chains that wrap.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    const double nu = (static_cast<double>(depth) + 2.0) * 5.9604644775390625e-08;
    return nu / (1.0 - nu) * sum_of_magnitudes;
  }

 protected:
  /// Adds in 32 bits; wraps.
  static constexpr std::int32_t add_product(std::int32_t c, activation a, weight w) noexcept {
    const std::int32_t product = std::int32_t{a} * std::int32_t{w};
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(c) + static_cast<std::uint32_t>(product));
  }
};

}  // namespace detail

/// Dynamic fixed point (Das et al., ICLR 2018, arXiv 1802.00930): the elements of a tensor are integers with one
/// exponent, found from the largest of them (core/dynamic_fixed_point.hpp). Activations and weights are `Storage`,
/// int8_t or int16_t, of which `Shift` bits are left empty.
///
///     sum over k of a[k] w[k]  =  2^(E_a + E_w) * (float sum over chains of (int32 sum over Chain products))
///
/// Bytes have room for more products in 32 bits than most sums have: with Shift 0 and the guaranteed chain their sums are
/// those of mac::int8, exact, the rest gathered in 64 bits, and become float once, when they are handed on.
///
/// The accumulator is in units of 2^(E_a + E_w): epilogue::scale(M::scale(E_a, E_w)) gives the reals. A chain of
/// products is added in 32 bits and then spilled: converted to float (one rounding, where it is above 2^24) and added
/// (one more). `multiply_add` on the float accumulator is a chain of one product.
///
///     Chain, guaranteed   int16, Shift 0: 2 | 1: 8 | 2 (default): 32 | 3: 128      int8, Shift 0 (default): 131,071
///     statistical         dfp_statistical<Storage, Shift, Chain = 256>: longer chains, which wrap when they overflow:
///                         with Shift 2 and operands uniform in [0, 1) a chain of 256 reaches 2^32.3, with N(0, 1) only
///                         2^25.8. Data of one sign on both sides (behind a ReLU) is the dangerous case.
///
/// Guaranteed chains rest on codes in [-limit, limit], as `encode` makes them; layers refuse weights beyond
/// (`check_weight`). Whatever the operands, sums in 32 bits wrap and are never undefined.
///
/// Error of a guaranteed sum, in units of 2^(E_a + E_w), against the exact sum of the codes' products: `error_bound`,
/// Higham, Accuracy and Stability of Numerical Algorithms, section 3.1, with a rounding more for the conversion.
/// It holds for chains of any length; with the number of chains instead of the depth it is the tighter one for them.
template <class Storage, int Shift = sizeof(Storage) == 2 ? 2 : 0,
          std::size_t Chain = detail::safe_chain<Storage, Shift>(), class Promise = guaranteed_chain>
struct dfp : detail::dfp_codes<Storage, Shift, Chain, Promise> {
  using accumulator = float;
  using chain_accumulator = std::int32_t;
  static constexpr bool exact = false;
  /// Products that are added in 32 bits before they are spilled.
  static constexpr std::size_t chain = Chain;

  static constexpr accumulator multiply_add(accumulator c, Storage a, Storage w) noexcept {
    return spill(c, multiply_add(chain_accumulator{0}, a, w));
  }
  /// Adds in 32 bits; wraps.
  static constexpr chain_accumulator multiply_add(chain_accumulator c, Storage a, Storage w) noexcept {
    return dfp::add_product(c, a, w);
  }
  static constexpr accumulator spill(accumulator c, chain_accumulator s) noexcept { return c + static_cast<float>(s); }
};

/// Bytes, of which a chain is as long as sums of int8 may be. A bias is an integer in units of 2^(E_a + E_w).
template <class Storage, int Shift, std::size_t Chain, class Promise>
requires(Chain == mac::int8::max_depth &&
         Chain == detail::safe_chain<Storage, Shift>()) struct dfp<Storage, Shift, Chain, Promise>
    : detail::dfp_codes<Storage, Shift, Chain, Promise> {
  using accumulator = std::int32_t;
  using sum = float;
  using computed_as = mac::int8;
  static constexpr bool exact = true;
  static constexpr int headroom_bits = 0;
  static constexpr std::size_t max_depth = Chain;
  static constexpr std::size_t chain = Chain;

  static constexpr accumulator multiply_add(accumulator c, Storage a, Storage w) noexcept {
    return dfp::add_product(c, a, w);
  }
  static constexpr sum total(accumulator c) noexcept { return static_cast<float>(c); }
  static constexpr bool totals_are_floats = true;
};

/// Chains longer than what is guaranteed, as the paper's authors ran them: a gamble on the data, see dfp.
template <class Storage, int Shift = sizeof(Storage) == 2 ? 2 : 0, std::size_t Chain = 256>
using dfp_statistical = dfp<Storage, Shift, Chain, statistical_chain>;

static_assert(Mac<dfp<std::int8_t>> && Mac<dfp<std::int16_t>> && Mac<dfp_statistical<std::int16_t>>);
static_assert(dfp<std::int16_t>::chain == 32 && dfp<std::int16_t, 3>::chain == 128 &&
              dfp<std::int8_t>::chain == 131071);

}  // namespace mac
POLYMAC_END
