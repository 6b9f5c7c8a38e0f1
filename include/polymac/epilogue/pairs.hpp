// SPDX-License-Identifier: MIT
// Epilogues that join two neighbouring columns of sums to one output.
#pragma once

#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace epilogue {

/// Base of stages that take the sums of the columns 2 c and 2 c + 1 and give the output of column c: gated units, whose
/// two products are one with interleaved columns. The kernel writes half as many columns as it adds up.
///   check(columns) noexcept -> status                      of the columns of sums
///   operator()(first, second, row, column) noexcept        the sums of the columns 2 c and 2 c + 1; column: c
///
/// A stage may do the same on many pairs, in three steps that the kernel calls on arrays in L1:
///   reals(sums, count, row, column, to) noexcept           what `count` sums from column `column` on stand for, floats
///   join(first, second, count) noexcept                    first[i] = result of first[i] and second[i]; both can be
///                                                          read and written up to the next multiple of 16
///   round(value) noexcept                                  float -> output
/// Both forms agree but for the last bits of functions like exp.
struct pair_stage : stage {};

template <class S>
concept PairStage = Stage<S> && std::derived_from<std::remove_cvref_t<S>, pair_stage>;

/// Does S have the three steps, for sums of type V?
template <class S, class V>
concept JoinsMany = requires(const S& s, const V* sums, float* first, float* second, std::size_t n) {
  { s.reals(sums, n, n, n, first) }
  noexcept;
  { s.join(first, second, n) }
  noexcept;
  { s.round(*first) }
  noexcept;
};

/// The output type of S for sums of type V.
template <PairStage S, class V>
using pair_output_of = std::remove_cvref_t<decltype(std::declval<const S&>()(std::declval<V>(), std::declval<V>(),
                                                                             std::size_t{}, std::size_t{}))>;

}  // namespace epilogue
POLYMAC_END
