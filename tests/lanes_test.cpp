// SPDX-License-Identifier: MIT
// Blocks of sums in registers against the scalar stages: every block shape, mode, output type and stage, sums from
// random ones to the steps of the function, where two forms of it would differ first.
#include "catch.hpp"
#include "polymac/epilogue/activation.hpp"
#include "polymac/epilogue/bias.hpp"
#include "polymac/epilogue/clamp.hpp"
#include "polymac/epilogue/dequantize.hpp"
#include "polymac/epilogue/requantize.hpp"
#include "polymac/isa/all.hpp"
#include "polymac/kernel/gate.hpp"
#include "support/random.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace pm = polymac;
namespace isa = polymac::isa;
using pm::rounding;
using polymac_test::random_source;

namespace {

using native = isa::native;
constexpr std::size_t width = isa::lane_columns;

/// All elements of a block by the block and by the scalar stages; `columns` of the last panel count.
template <std::size_t Rows, std::size_t Panels, class Sum, class Stages>
void compare(const Stages& stages, const std::vector<Sum>& sums, std::size_t first_column, std::size_t columns) {
  using out_type = pm::epilogue::output_of<Stages, Sum>;
  constexpr std::size_t row_width = Panels * width;
  constexpr auto untouched = static_cast<out_type>(77);
  std::array<std::vector<out_type>, Rows> got;
  out_type* rows[Rows];
  for (std::size_t r = 0; r < Rows; ++r) {
    got[r].assign(row_width + width, untouched);
    rows[r] = got[r].data();
  }
  const auto block = isa::best_lanes<Sum, native, Rows, Panels>::load(sums.data(), row_width);
  stages.view().lanes(block, {5, first_column}).store(rows, columns);
  const std::size_t end = (Panels - 1) * width + columns;
  std::size_t wrong = 0;
  for (std::size_t r = 0; r < Rows; ++r)
    for (std::size_t c = 0; c < got[r].size(); ++c) {
      const out_type expected = c < end ? stages(sums[r * row_width + c], 5 + r, first_column + c) : untouched;
      const bool equal = expected == got[r][c] || (expected != expected && got[r][c] != got[r][c]);
      if (!equal && ++wrong == 1)
        FAIL_CHECK("sum " << sums[r * row_width + c] << " column " << first_column + c << ": expected "
                          << static_cast<double>(expected) << ", got " << static_cast<double>(got[r][c]));
    }
  CHECK(wrong == 0);
}

/// The same of rows of half a group, which lie side by side.
template <class Sum, class Stages>
void compare_halves(const Stages& stages, const std::vector<Sum>& sums, std::size_t first_column) {
  using out_type = pm::epilogue::output_of<Stages, Sum>;
  constexpr std::size_t columns = width / 2;
  std::vector<out_type> got(8 * columns);
  const auto block = isa::best_lanes<Sum, native, 8, 1, columns>::load_all(sums.data());
  stages.view().lanes(block, {5, first_column}).store_all(got.data());
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const out_type expected = stages(sums[i], 5 + i / columns, first_column + i % columns);
    wrong += !(expected == got[i] || (expected != expected && got[i] != got[i]));
  }
  CHECK(wrong == 0);
}

template <class Sum, class Stages, class NextSum>
void compare_shapes(const Stages& stages, std::size_t all_columns, const NextSum& next) {
  const auto run = [&]<std::size_t Rows, std::size_t Panels>(std::size_t first, std::size_t columns) {
    std::vector<Sum> sums(Rows * Panels * width);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      const std::size_t column = first + i % (Panels * width);
      sums[i] = next(column < all_columns ? column : 0);
    }
    compare<Rows, Panels>(stages, sums, first, columns);
  };
  const std::size_t rest = all_columns % width == 0 ? width : all_columns % width;
  run.template operator()<4, 1>(0, width);
  run.template operator()<4, 1>(all_columns - rest, rest);
  run.template operator()<2, 2>(width, width);
  run.template operator()<2, 2>(all_columns - rest - width, rest);
  run.template operator()<1, 4>(0, width);
  run.template operator()<1, 4>(all_columns - rest - 3 * width, rest);
  run.template operator()<2, 1>(2 * width, width);
  run.template operator()<1, 2>(all_columns - rest - width, rest);
  run.template operator()<1, 1>(width, width);
  run.template operator()<1, 1>(all_columns - rest, rest);
  std::vector<Sum> halves(8 * width / 2);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = next(width + i % (width / 2));
  compare_halves(stages, halves, width);
}

/// A sum that lies where the scaled value is between two integers, or anywhere at all.
std::int32_t interesting_sum(random_source& random, double scale) {
  constexpr auto lowest = std::numeric_limits<std::int32_t>::min();
  constexpr auto highest = std::numeric_limits<std::int32_t>::max();
  switch (random.integer(0, 9)) {
    case 0:
      return static_cast<std::int32_t>(random.integer(lowest, highest));
    case 1:
      return random.integer(0, 1) == 0 ? lowest : highest;
    case 2:
      return static_cast<std::int32_t>(random.integer(-3, 3));
    default: {
      const double at = (static_cast<double>(random.integer(-300, 300)) - 0.5) / scale;
      const double near = at + static_cast<double>(random.integer(-2, 2));
      return near < lowest ? lowest : near > highest ? highest : static_cast<std::int32_t>(near);
    }
  }
}

template <rounding Mode, class Out>
void compare_requantisation(random_source& random) {
  constexpr std::size_t columns = 6 * width + 5;
  std::vector<double> scales(columns);
  // Scales as nets have them, then any that is allowed.
  const int spread = static_cast<int>(random.integer(0, 3));
  for (double& s : scales) {
    const double mantissa = 0.5 + 0.5 * static_cast<double>(random.integer(0, 1 << 24)) / (1 << 24);
    s = std::ldexp(mantissa, static_cast<int>(spread == 0   ? random.integer(-12, -4)
                                              : spread == 1 ? random.integer(-16, 0)
                                              : spread == 2 ? random.integer(-34, 20)
                                                            : -8));
    if (random.integer(0, 40) == 0) s = 0.0;
    if (random.integer(0, 20) == 0) s = std::ldexp(1.0, static_cast<int>(random.integer(-12, 1)));
  }
  const auto zero_point =
      static_cast<std::int32_t>(random.integer(std::numeric_limits<Out>::min(), std::numeric_limits<Out>::max()));
  const auto next = [&](std::size_t column) {
    return interesting_sum(random, scales[column] > 0 ? scales[column] : 1.0);
  };
  const auto stages = pm::requantize<Mode, Out>(std::span<const double>(scales), zero_point);
  compare_shapes<std::int32_t>(stages, columns, next);
  compare_shapes<std::int32_t>(stages | pm::clamp(-7, 50), columns, next);
  const auto one = pm::requantize<Mode, Out>(scales[3], zero_point);
  compare_shapes<std::int32_t>(pm::relu | one, columns, [&](std::size_t) { return next(3); });
}

template <rounding Mode>
void compare_mode() {
  if constexpr (isa::has_lanes<std::int32_t, native>) {
    random_source random(static_cast<unsigned>(Mode) + 1);
    for (int i = 0; i < 150; ++i) {
      compare_requantisation<Mode, std::int8_t>(random);
      compare_requantisation<Mode, std::uint8_t>(random);
      compare_requantisation<Mode, std::int16_t>(random);
    }
  } else {
    SUCCEED("this instruction set has no blocks of sums");
  }
}

}  // namespace

TEST_CASE("requantisation in registers: gemmlowp") { compare_mode<rounding::gemmlowp>(); }
TEST_CASE("requantisation in registers: half up") { compare_mode<rounding::half_up>(); }
TEST_CASE("requantisation in registers: rndnu") { compare_mode<rounding::rndnu>(); }
TEST_CASE("requantisation in registers: fp32") { compare_mode<rounding::fp32_nearest_even>(); }

TEST_CASE("stages of raw sums in registers") {
  if constexpr (isa::has_lanes<std::int32_t, native>) {
    random_source random(9);
    constexpr std::size_t columns = 6 * width + 9;
    const auto any = [&](std::size_t) { return interesting_sum(random, 0.01); };
    compare_shapes<std::int32_t>(pm::epilogue::identity{}, columns, any);
    compare_shapes<std::int32_t>(pm::clamp(-1000, 1 << 20), columns, any);
    std::vector<float> scales(columns);
    for (float& s : scales) s = static_cast<float>(random.integer(1, 1000)) * 1e-4f;
    compare_shapes<std::int32_t>(pm::dequantize(std::span<const float>(scales)) | pm::relu6, columns, any);
    compare_shapes<std::int32_t>(pm::dequantize(0.37f) | pm::epilogue::bias(scales) | pm::relu, columns, any);
  } else {
    SUCCEED("this instruction set has no blocks of sums");
  }
}

TEST_CASE("stages of float sums in registers") {
  if constexpr (isa::has_lanes<float, native>) {
    random_source random(10);
    constexpr std::size_t columns = 6 * width + 1;
    std::vector<float> bias(columns, 0.25f);
    const auto any = [&](std::size_t) {
      if (random.integer(0, 15) == 0) return std::numeric_limits<float>::quiet_NaN();
      return static_cast<float>(random.integer(-1000, 1000)) * 0.013f;
    };
    compare_shapes<float>(pm::epilogue::identity{}, columns, any);
    compare_shapes<float>(pm::epilogue::bias(bias) | pm::relu, columns, any);
    compare_shapes<float>(pm::clamp(-1.0f, 2.5f), columns, any);
    compare_shapes<float>(pm::relu6, columns, any);
  } else {
    SUCCEED("this instruction set has no blocks of sums");
  }
}

// The proof stands on the steps of the function. Here it meets every sum of a range, and the exact steps beyond it.
TEST_CASE("a float form that is proved equals the integers for every sum") {
  using pm::epilogue::detail::find_float_form;
  using pm::epilogue::detail::float_form;
  random_source random(3);
  int proved = 0, all = 0;
  for (int i = 0; i < 400; ++i) {
    const double mantissa = 0.5 + 0.5 * static_cast<double>(random.integer(0, 1 << 30)) / (1 << 30);
    const double scale = std::ldexp(mantissa, static_cast<int>(random.integer(-11, 0)));
    const auto f = pm::fixed_point::quantize_multiplier(scale);
    const auto least = static_cast<std::int32_t>(random.integer(-255, 0));
    float_form form;
    ++all;
    if (!find_float_form<rounding::gemmlowp>(f, least, least + 255, form)) continue;
    ++proved;
    std::size_t wrong = 0;
    for (std::int32_t sum = -40000; sum <= 40000; sum += 1 + static_cast<std::int32_t>(random.integer(0, 2))) {
      // The directed addition, exactly: in double nothing is lost but beyond the 53rd bit.
      const auto addend = static_cast<float>(static_cast<double>(sum) * static_cast<double>(form.low) +
                                             static_cast<double>(sum < 0 ? -form.offset : form.offset));
      const double value =
          std::trunc(static_cast<double>(sum) * static_cast<double>(form.high) + static_cast<double>(addend));
      const std::int32_t exact =
          pm::fixed_point::multiply_by_quantized_multiplier<rounding::gemmlowp>(sum, f.multiplier, f.shift);
      const auto clamped = [&](double v) { return std::fmin(std::fmax(v, least), least + 255); };
      wrong += clamped(value) != clamped(exact);
    }
    CHECK(wrong == 0);
  }
  INFO(proved << " of " << all << " columns proved");
  CHECK(proved * 100 >= all * 95);
}

TEST_CASE("pairs of columns are joined as the scalar form says") {
  random_source random(9);
  const std::vector<float> sums = polymac_test::uniform<float>(random, 160);
  const std::vector<float> scales = polymac_test::uniform<float>(random, 160);
  std::vector<std::int32_t> codes(sums.size());
  for (auto& c : codes) c = static_cast<std::int32_t>(random.integer(-30000, 30000));
  const float row_scale = 0.01f;
  // No function: both forms have the same bits.
  const pm::kernel::gate<pm::activation::linear> plain{{}};
  const pm::kernel::scaled_gate<pm::activation::linear> scaled{{}, scales.data(), sums.data(), &row_scale};
  std::size_t wrong = 0;
  for (std::size_t count = 1; count <= 40; ++count) {
    std::vector<float> y(41, 77.0f), z(41, 77.0f);
    plain.many(sums.data() + 3, count, 0, 0, y.data());
    scaled.many(codes.data() + 5, count, 0, 2, z.data());
    for (std::size_t i = 0; i < count; ++i)
      wrong += y[i] != plain(sums[3 + 2 * i], sums[4 + 2 * i], 0, i) ||
               z[i] != scaled(codes[5 + 2 * i], codes[6 + 2 * i], 0, 2 + i);
    wrong += y[count] != 77.0f || z[count] != 77.0f;
  }
  CHECK(wrong == 0);
}
