// SPDX-License-Identifier: MIT
// Products inside of a memory array: analogue sums over rows, read through an analogue-to-digital converter. A model of
// what such hardware computes; not fast.
#pragma once

#include "polymac/core/block.hpp"
#include "polymac/core/concepts.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/round.hpp"
#include "polymac/core/text.hpp"

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

POLYMAC_BEGIN
namespace mac {

/// How a converter spreads its codes over the sums.
enum class adc_range : unsigned char {
  linear,  ///< the full scale, in equal steps: LSB = full scale / (2^bits - 1)
  clip,    ///< steps of 1 from 0 on; larger sums saturate
};
enum class adc_rounding : unsigned char { nearest_even, floor };
/// How an array of cells that hold no negative values holds signed weights.
enum class cell_signs : unsigned char {
  twos_complement,  ///< planes of bits, the highest counts negative (cells of one bit)
  offset_column,    ///< w + 2^(weight_bits - 1), and a column of nothing but the offset, whose sum is taken off
  differential,     ///< two arrays for positive and negative weights, converted apart
};

/// An analogue-to-digital converter of sums in [0, full_scale]. The identity where it has a code for each of them.
struct adc {
  std::int32_t full_scale = 1;
  int bits = 8;
  adc_range range = adc_range::linear;
  adc_rounding rounding = adc_rounding::nearest_even;

  constexpr std::int32_t top_code() const noexcept { return (std::int32_t{1} << bits) - 1; }
  constexpr bool is_lossless() const noexcept { return top_code() >= full_scale; }
  constexpr double lsb() const noexcept {
    return is_lossless() || range == adc_range::clip ? 1.0 : static_cast<double>(full_scale) / top_code();
  }
  /// What the converter makes of a sum, in units of the sum.
  constexpr double operator()(std::int32_t sum) const noexcept {
    if (is_lossless()) return sum;
    if (range == adc_range::clip) return sum < top_code() ? sum : top_code();
    const double steps = static_cast<double>(sum) * top_code() / full_scale;
    const std::int64_t code =
        rounding == adc_rounding::floor ? polymac::detail::floor_of(steps) : polymac::detail::round_to_even(steps);
    return static_cast<double>(code < top_code() ? code : top_code()) * lsb();
  }
  /// Bound of |converted - sum|.
  constexpr double error_bound() const noexcept {
    if (is_lossless()) return 0.0;
    if (range == adc_range::clip) return full_scale - top_code();
    return rounding == adc_rounding::floor ? lsb() : lsb() / 2;
  }
  /// Bits with which sums of so many rows are converted without loss: ceil(log2(full scale + 1)).
  static constexpr int lossless_bits(std::int32_t full_scale) noexcept {
    return static_cast<int>(std::bit_width(static_cast<std::uint32_t>(full_scale)));
  }
};

/// What an array is like, beside its rows, its converter and its cells.
struct imc_options {
  int activation_bits = 8;  ///< unsigned, at most 8
  int weight_bits = 8;      ///< signed, 2 to 8
  int dac_bits = 1;         ///< of an activation that are applied at a time: 1 is bit-serial
  adc_range range = adc_range::linear;
  adc_rounding rounding = adc_rounding::nearest_even;
  cell_signs signs = cell_signs::twos_complement;
};

/// Unsigned activations x signed weights in an array of `Rows` active rows with cells of `CellBits` bits and converters
/// of `AdcBits` bits. An element is a block of Rows k:
///
///     c + sum over steps t of 2^(dac_bits t) sum over cells p of (+-) 2^(CellBits p)
///             ADC( sum over k of the block of x[k][t] w[k][p] )
///
/// x[k][t]: dac_bits bits of the activation, w[k][p]: a cell of the weight. The converter's full scale is what Rows
/// full cells give, Rows (2^CellBits - 1) (2^dac_bits - 1); where 2^AdcBits - 1 reaches it, nothing is lost and the
/// block is the integer product. The sum of a block is taken in double and rounded once to float. Zero weights or
/// activations add nothing in every variant (the offset's column goes through the same converters as the weights').
///
/// Activations are 8-bit words of which the lower activation_bits count; layers refuse weights beyond weight_bits.
/// Blocks are plain values: as_blocks<imc::weight>(view). Sources: CrossSim (rounding converter), NeuroSim (offset and
/// dummy column), Shafiee et al., ISAAC, 2016.
template <std::size_t Rows, int AdcBits, int CellBits = 1, imc_options Options = imc_options{}>
struct imc {
  static_assert(Rows >= 1 && Rows <= 2048, "polymac: an array of imc has 1 to 2048 active rows");
  static_assert(AdcBits >= 1 && AdcBits <= 16, "polymac: converters of imc have 1 to 16 bits");
  static_assert(CellBits >= 1 && CellBits <= 4, "polymac: cells of imc have 1 to 4 bits");
  static_assert(Options.activation_bits >= 1 && Options.activation_bits <= 8 && Options.weight_bits >= 2 &&
                    Options.weight_bits <= 8 && Options.dac_bits >= 1 && Options.dac_bits <= Options.activation_bits,
                "polymac: imc takes activations of 1 to 8 bits, weights of 2 to 8 bits, and at most an activation at a "
                "time");
  static_assert(Options.signs != cell_signs::twos_complement || CellBits == 1,
                "polymac: two's complement needs cells of one bit: take offset_column or differential");

  using activation = block_of<std::uint8_t, Rows>;
  using weight = block_of<std::int8_t, Rows>;
  using accumulator = float;
  static constexpr std::size_t group_size = Rows;
  static constexpr std::int32_t weight_max = (1 << (Options.weight_bits - 1)) - 1, weight_min = -weight_max - 1;
  /// Times that the rows are driven for one block, and cells of a weight.
  static constexpr int steps = (Options.activation_bits + Options.dac_bits - 1) / Options.dac_bits;
  static constexpr int cells = (Options.weight_bits + CellBits - 1) / CellBits;
  static constexpr adc converter{
      static_cast<std::int32_t>(Rows) * ((1 << CellBits) - 1) * ((1 << Options.dac_bits) - 1), AdcBits, Options.range,
      Options.rounding};
  static constexpr bool is_lossless = converter.is_lossless();
  /// Without loss, up to the rounding of floats.
  static constexpr bool linear = is_lossless;
  static constexpr bool exact = false;

 private:
  static constexpr text<95> make_name() noexcept {
    auto t = text<95>::join("imc_", Rows, "_a", Options.activation_bits, "w", Options.weight_bits, "_adc", AdcBits);
    if (Options.range == adc_range::clip) t.append("_clip");
    if (Options.rounding == adc_rounding::floor) t.append("_floor");
    if (CellBits > 1) t.append("_cell"), t.append(CellBits);
    if (Options.dac_bits > 1) t.append("_dac"), t.append(Options.dac_bits);
    if (Options.signs == cell_signs::offset_column) t.append("_offset");
    if (Options.signs == cell_signs::differential) t.append("_differential");
    return t;
  }
  static constexpr text<95> name_ = make_name();

 public:
  static constexpr const char* name = name_.c_str();

  static constexpr accumulator multiply_add(accumulator c, const activation& a, const weight& w) noexcept {
    return c + static_cast<float>(block_sum(a, w));
  }
  /// What the array makes of one block.
  static constexpr double block_sum(const activation& a, const weight& w) noexcept {
    constexpr int offset = 1 << (Options.weight_bits - 1);
    double sum = 0.0;
    for (int t = 0; t < steps; ++t)
      for (int p = 0; p < cells; ++p) {
        const double unit = static_cast<double>(std::int64_t{1} << (t * Options.dac_bits + p * CellBits));
        if constexpr (Options.signs == cell_signs::twos_complement)
          sum += (p + 1 == cells ? -unit : unit) * column(a, t, p, [&](std::size_t k) { return int{w[k]}; });
        else if constexpr (Options.signs == cell_signs::offset_column)
          sum += unit * (column(a, t, p, [&](std::size_t k) { return w[k] + offset; }) -
                         column(a, t, p, [&](std::size_t) { return offset; }));
        else
          sum += unit * (column(a, t, p, [&](std::size_t k) { return w[k] > 0 ? int{w[k]} : 0; }) -
                         column(a, t, p, [&](std::size_t k) { return w[k] < 0 ? -w[k] : 0; }));
      }
    return sum;
  }
  static constexpr bool check_weight(const weight& w) noexcept {
    for (const std::int8_t v : w.values)
      if (v < weight_min || v > weight_max) return false;
    return true;
  }

  /// Cycles of a row of `blocks` blocks one after another, all columns at once: the rows are driven `steps` times each.
  static constexpr std::uint64_t cycles(std::uint64_t blocks) noexcept { return blocks * steps; }
  /// Conversions of them for one column of weights.
  static constexpr std::uint64_t conversions(std::uint64_t blocks) noexcept {
    return cycles(blocks) * cells * (Options.signs == cell_signs::twos_complement ? 1 : 2);
  }
  /// Bound of |computed - exact product| for a sum of `depth` blocks, of which sum_of_magnitudes is that of the exact
  /// products, bias included: what the converters may lose, and the rounding of the float sums.
  static constexpr double error_bound(std::size_t depth, double sum_of_magnitudes) noexcept {
    double units = 0.0;
    for (int t = 0; t < steps; ++t)
      for (int p = 0; p < cells; ++p)
        units += static_cast<double>(std::int64_t{1} << (t * Options.dac_bits + p * CellBits));
    const double columns = Options.signs == cell_signs::twos_complement ? 1.0 : 2.0;
    const double lost = static_cast<double>(depth) * converter.error_bound() * units * columns;
    const double nu = (static_cast<double>(depth) + 2.0) * 5.9604644775390625e-08;
    return lost + nu / (1.0 - nu) * (sum_of_magnitudes + lost);
  }

 private:
  /// One conversion: step t of the activations on cell p of a column, whose weights are value(k).
  template <class Value>
  static constexpr double column(const activation& a, int t, int p, const Value& value) noexcept {
    constexpr unsigned dac_mask = (1u << Options.dac_bits) - 1u, cell_mask = (1u << CellBits) - 1u;
    constexpr unsigned activation_mask = (1u << Options.activation_bits) - 1u;
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < Rows; ++k) {
      const unsigned x = (a[k] & activation_mask) >> (t * Options.dac_bits) & dac_mask;
      const unsigned cell = static_cast<unsigned>(value(k)) >> (p * CellBits) & cell_mask;
      sum += static_cast<std::int32_t>(x * cell);
    }
    return converter(sum);
  }
};

/// CAP-RAM (Chen et al., 2021: a charge-domain SRAM macro, 512 x 128 cells of which eight share a capacitor, so 64 rows
/// at a time, 7-bit converters, eight activation levels). Bit-serial (DacBits 1) nothing is lost: 64 < 128. All three
/// bits at once (DacBits 3) sums reach 448, in steps of 448 / 127.
template <int WeightBits = 4, int DacBits = 1>
using cap_ram = imc<64, 7, 1, imc_options{.activation_bits = 3, .weight_bits = WeightBits, .dac_bits = DacBits}>;

/// `Fragment` weights of one column that have one sign: magnitudes, and 1 or -1. 0: there are none.
template <std::size_t Fragment>
struct polarized_weights {
  std::uint8_t magnitudes[Fragment]{};
  std::int8_t sign = 0;
  friend constexpr bool operator==(const polarized_weights&, const polarized_weights&) noexcept = default;
};

/// FORMS (Yuan et al., ISCA 2021): arrays whose weights are polarised, all of one sign in a fragment of 4, 8 or 16
/// rows, so that cells hold magnitudes and a fragment one bit of sign. An element is a fragment:
///
///     c + sign sum over t < EIC of 2^t sum over p of 2^(CellBits p) ADC( sum over k of x[k][t] |w[k]|[p] )
///
/// EIC, the effective input cycles, is the position of the highest bit that is set in any of the fragment's
/// activations: planes of zeros above it are left out, which changes no sum. Activations are unsigned bytes. Converters
/// of 0 bits as many as it takes to lose nothing. (The formula is ours, after the paper's abstract.)
template <std::size_t Fragment = 8, int CellBits = 2, int AdcBits = 0>
struct forms {
  static_assert(Fragment >= 1 && Fragment <= 2048, "polymac: a fragment of forms has 1 to 2048 rows");
  static_assert(CellBits >= 1 && CellBits <= 8 && AdcBits >= 0 && AdcBits <= 16,
                "polymac: forms has cells of 1 to 8 bits and converters of 1 to 16, or 0 for lossless ones");
  using activation = block_of<std::uint8_t, Fragment>;
  using weight = polarized_weights<Fragment>;
  using accumulator = float;
  static constexpr std::size_t group_size = Fragment;
  static constexpr int cells = (8 + CellBits - 1) / CellBits;
  static constexpr std::int32_t full_scale = static_cast<std::int32_t>(Fragment) * ((1 << CellBits) - 1);
  static constexpr adc converter{full_scale, AdcBits > 0 ? AdcBits : adc::lossless_bits(full_scale)};
  static constexpr bool linear = converter.is_lossless();
  static constexpr bool exact = false;

 private:
  static constexpr auto name_ = text<47>::join("forms_", Fragment, "_adc", converter.bits, "_cell", CellBits);

 public:
  static constexpr const char* name = name_.c_str();

  static constexpr accumulator multiply_add(accumulator c, const activation& a, const weight& w) noexcept {
    double sum = 0.0;
    for (int t = 0, end = effective_input_cycles(a); t < end; ++t)
      for (int p = 0; p < cells; ++p) {
        std::int32_t column = 0;
        for (std::size_t k = 0; k < Fragment; ++k)
          if ((a[k] >> t & 1) != 0) column += w.magnitudes[k] >> (p * CellBits) & ((1 << CellBits) - 1);
        sum += static_cast<double>(std::int64_t{1} << (t + p * CellBits)) * converter(column);
      }
    return c + static_cast<float>(w.sign * sum);
  }
  static constexpr bool check_weight(const weight& w) noexcept {
    if (w.sign == 0)
      for (const std::uint8_t m : w.magnitudes)
        if (m != 0) return false;
    return w.sign >= -1 && w.sign <= 1;
  }

  /// Cycles of a fragment: bits up to the highest one of any activation; 0 for zeros alone.
  static constexpr int effective_input_cycles(const activation& a) noexcept {
    unsigned any = 0;
    for (const std::uint8_t v : a.values) any |= v;
    return static_cast<int>(std::bit_width(any));
  }
  static constexpr std::uint64_t cycles(std::span<const activation> row) noexcept {
    std::uint64_t n = 0;
    for (const activation& a : row) n += static_cast<std::uint64_t>(effective_input_cycles(a));
    return n;
  }

  /// Weights that have one sign already; others are refused, and the text says which is the first.
  static result<weight> encode(std::span<const std::int8_t, Fragment> values) noexcept {
    weight w;
    for (std::size_t k = 0; k < Fragment; ++k) {
      const std::int8_t sign = values[k] < 0 ? -1 : values[k] > 0 ? 1 : 0;
      if (sign != 0 && w.sign != 0 && sign != w.sign)
        return status::make(errc::parameter, "forms: expected weights of one sign in a fragment, weight ", k, " is ",
                            values[k]);
      if (sign != 0) w.sign = sign;
      w.magnitudes[k] = static_cast<std::uint8_t>(sign * values[k]);
    }
    return w;
  }
  /// The nearest polarised weights: those of the sign with less energy become 0 (the projection of the paper's ADMM).
  static constexpr weight project(std::span<const std::int8_t, Fragment> values) noexcept {
    std::int64_t energy = 0;
    for (const std::int8_t v : values) energy += (v < 0 ? -1 : 1) * std::int64_t{v} * v;
    weight w;
    w.sign = energy < 0 ? -1 : energy > 0 ? 1 : 0;
    for (std::size_t k = 0; k < Fragment; ++k)
      if (w.sign * values[k] > 0) w.magnitudes[k] = static_cast<std::uint8_t>(w.sign * values[k]);
    return w;
  }
};

static_assert(Mac<imc<128, 8>> && Mac<cap_ram<>> && Mac<forms<>>);

}  // namespace mac
POLYMAC_END
