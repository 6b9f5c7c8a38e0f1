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
/// A stage may do the same on many pairs side by side, in registers:
///   many(sums, count, row, column, to) noexcept            to[i] = the output of column `column` + i, for `count` pairs
///                                                          of one row; nothing beyond them is read or written
/// Both forms agree but for the last bits of functions like exp; in the second, a value does not depend on where its
/// pair stands.
struct pair_stage : stage {};

template <class S>
concept PairStage = Stage<S> && std::derived_from<std::remove_cvref_t<S>, pair_stage>;

/// Does S have that form, for sums of type V and outputs of type Out?
template <class S, class V, class Out>
concept JoinsMany = requires(const S& s, const V* sums, Out* to, std::size_t n) {
  { s.many(sums, n, n, n, to) }
  noexcept;
};

/// The output type of S for sums of type V.
template <PairStage S, class V>
using pair_output_of = std::remove_cvref_t<decltype(std::declval<const S&>()(std::declval<V>(), std::declval<V>(),
                                                                             std::size_t{}, std::size_t{}))>;

}  // namespace epilogue
POLYMAC_END
