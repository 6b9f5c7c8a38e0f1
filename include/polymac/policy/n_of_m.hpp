// SPDX-License-Identifier: MIT
// N:M sparse weights: of every M neighbouring weights of a column at most N are other than 0.
//
//     2:4, one column     | 0  7 -9  0 | 3  0  0  1 | ...      k ->
//     what a panel holds  |    7 -9    | 3        1 | ...      and where in its group each of them stood
//
// Groups lie along k of the product that uses the weights: of a convolution, along the input channels of one tap. A tap
// whose channels M does not divide ends with a shorter group; none reaches into the next tap. (Zhou et al., "Learning
// N:M fine-grained structured sparse neural networks from scratch", ICLR 2021, prune so; their earlier code, and others,
// made groups along the flattened kernel: such weights are refused here, nothing is dropped.)
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/policy/blocks.hpp"
#include "polymac/policy/policy.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace policy {

/// Which neighbouring columns keep their weights at the same k.
enum class share : std::uint8_t {
  column,  ///< none: each has positions of its own
  four,    ///< four columns
  tile,    ///< `tile_columns`, as many as a register tile has: an activation is selected once for all of them
};
inline constexpr std::size_t tile_columns = 32;

struct n_of_m_atoms;

/// How positions stand in the panels of weights.
enum class positions : std::uint8_t {
  bytes,   ///< one byte each, as instructions want them: for rows enough to keep the panels in a cache
  packed,  ///< as few bits as they need: for few rows, whose time is that of reading the weights
};

template <std::size_t N, std::size_t M, share Share = share::column, positions Positions = positions::bytes>
struct n_of_m;
namespace detail {
/// The next policy that weights of this one obey, too: places of their own, in bytes, and of every half of a group as many.
template <std::size_t N, std::size_t M, share Share, positions Positions>
struct weaker_n_of_m {
  static constexpr auto find() {
    if constexpr (Share != share::column)
      return std::type_identity<n_of_m<N, M, share::column, Positions>>{};
    else if constexpr (Positions != positions::bytes)
      return std::type_identity<n_of_m<N, M>>{};
    else if constexpr (2 * N < M)
      return std::type_identity<n_of_m<N, M / 2>>{};
    else
      return std::type_identity<void>{};
  }
  using type = typename decltype(find())::type;
};
}  // namespace detail

/// N:M sparse weights. share::four and share::tile: see there; a set of columns that share ends with the columns of a
/// group of a convolution.
///
/// On int8, uint8 and what is computed as those there are kernels that multiply what is kept alone
/// (isa/n_of_m_atoms.hpp); where the instruction set has none, or one that is predicted to be slower than the dense
/// kernel, the layer keeps the weights dense, and explain() says so. The sums are those of the dense weights, in the
/// same order, on every instruction set.
template <std::size_t N, std::size_t M, share Share, positions Positions>
struct n_of_m : policy {
  static_assert(N > 0 && N < M && M <= 64 && (M & (M - 1)) == 0,
                "polymac: n_of_m<N, M> keeps N of M weights: expected 0 < N < M, and for M a power of two up to 64");
  using atoms = n_of_m_atoms;
  static constexpr std::size_t kept = N, group = M;
  static constexpr share sharing = Share;
  static constexpr positions positions_as = Positions;
  /// Columns that keep their weights at the same k.
  static constexpr std::size_t columns_together = Share == share::column ? 1 : Share == share::four ? 4 : tile_columns;
  static constexpr std::size_t channel_group = M;
  /// A policy that these weights obey, too, for an instruction set that has no kernel for this one; void: there is none.
  using weaker = typename detail::weaker_n_of_m<N, M, Share, Positions>::type;

 private:
  static constexpr auto text_ = text<47>::join("n_of_m<", N, ", ", M,
                                               Share == share::four   ? ", share::four"
                                               : Share == share::tile ? ", share::tile"
                                                                      : "",
                                               Positions == positions::packed ? ", packed>" : ">");

 public:
  static constexpr const char* name = text_.c_str();

  /// Fails with the first group that has more than N weights other than 0. O(columns x depth).
  template <class WeightOf>
  static constexpr status check(const char* who, std::size_t columns, std::size_t depth, std::size_t run,
                                const WeightOf& weight_of) noexcept {
    status s;
    detail::for_each_block(columns, columns_together, depth, run, M, [&](const detail::block_range& b) {
      std::size_t live = 0;
      for (std::size_t k = b.k; k < b.k_end; ++k) live += is_live(b.column, b.column_end, k, weight_of) ? 1 : 0;
      if (live <= N) return true;
      const bool shares = b.column_end - b.column > 1;
      s = status::make(errc::parameter, who, ": ", name, " expects at most ", N, " weights other than 0 in k ", b.k,
                       " to ", b.k_end - 1, " of column", shares ? "s " : " ", b.column,
                       shares ? " and those it shares with" : "", ", got ", live);
      return false;
    });
    return s;
  }

 private:
  template <class WeightOf>
  static constexpr bool is_live(std::size_t first, std::size_t end, std::size_t k, const WeightOf& weight_of) noexcept {
    for (std::size_t c = first; c < end; ++c)
      if (const auto w = weight_of(c, k); !(w == std::remove_cvref_t<decltype(w)>{})) return true;
    return false;
  }
};

namespace detail {

/// Sets all weights to 0 but the `kept` of every group that are the largest; of equals those of the lower k.
/// at(column, k) refers to a weight.
template <class P, class At>
constexpr void prune_groups(std::size_t columns, std::size_t depth, std::size_t run, const At& at) noexcept {
  using weight = std::remove_reference_t<decltype(at(0, 0))>;
  for_each_block(columns, P::columns_together, depth, run, P::group, [&](const block_range& b) {
    const std::size_t count = b.k_end - b.k;
    decltype(magnitude_of(weight{})) score[P::group]{};
    for (std::size_t i = 0; i < count; ++i)
      for (std::size_t c = b.column; c < b.column_end; ++c) score[i] += magnitude_of(at(c, b.k + i));
    for (std::size_t i = 0; i < count; ++i) {
      std::size_t before = 0;  // that are kept rather than this one
      for (std::size_t j = 0; j < count; ++j) before += score[j] > score[i] || (score[j] == score[i] && j < i) ? 1 : 0;
      if (before < P::kept) continue;
      for (std::size_t c = b.column; c < b.column_end; ++c) at(c, b.k + i) = weight{};
    }
    return true;
  });
}

template <class P>
concept NOfM = requires {
  P::kept + P::group;
};

}  // namespace detail

/// Prunes columns x depth weights by magnitude, in place: keeps of every group the N largest magnitudes (columns that
/// share: the largest sums of magnitudes), of equal ones those of the lower k. P: an n_of_m. O(columns x depth x M).
template <detail::NOfM P, class W>
constexpr void prune(matrix_view<W> weights) noexcept {
  detail::for_each_product(weights, [](auto columns, auto depth, auto run, const auto& at) {
    detail::prune_groups<P>(columns, depth, run, at);
  });
}
/// The same of the weights of a convolution: output channels x height x width x input channels, in `groups` groups.
template <detail::NOfM P, class W>
constexpr void prune(image_view<W> weights, std::size_t groups = 1) noexcept {
  detail::for_each_product(weights, groups, [](auto columns, auto depth, auto run, const auto& at) {
    detail::prune_groups<P>(columns, depth, run, at);
  });
}

/// 2:4 weights as NVIDIA's sparse tensor cores number them, in logical order: of every four weights two values, and a
/// nibble i0 + 4 i1 that says where they stood, i0 < i1; the nibble of the lower k in the lower half of a byte. (Eight
/// nibbles make the 32-bit words of int8 data, four the 16-bit words of halves; the order in which the hardware wants
/// those words is not applied.)
namespace two_of_four {

/// The nibble of four weights of which those given are not 0. With fewer than two of them the places are completed by
/// fixed rules, with more than two some are dropped: as PyTorch's converter does.
constexpr std::uint8_t nibble(bool w0, bool w1, bool w2, bool w3) noexcept {
  static_cast<void>(w3);  // has the place that is left
  const unsigned i0 = w0 ? 0 : w1 ? 1 : 2;
  const unsigned i1 = w0 && w1 && !w2 ? 1 : w2 && (w0 || w1) ? 2 : 3;
  return static_cast<std::uint8_t>(i0 | i1 << 2);
}
/// Where the two values of a nibble stand; false where it is none.
constexpr bool places_of(unsigned nibble, std::size_t& first, std::size_t& second) noexcept {
  first = nibble & 3;
  second = nibble >> 2 & 3;
  return first < second;
}

namespace detail {
constexpr status check_shapes(std::size_t rows, std::size_t depth, std::size_t value_rows, std::size_t values,
                              std::size_t nibble_rows, std::size_t nibbles) noexcept {
  if (depth % 8 == 0 && value_rows == rows && nibble_rows == rows && values == depth / 2 && nibbles == depth / 8)
    return {};
  return status::make(errc::shape, "two_of_four: expected a depth that is a multiple of 8, values of ", rows, " x ",
                      depth / 2, " and nibbles of ", rows, " x ", depth / 8, " bytes, got a depth of ", depth,
                      ", values of ", value_rows, " x ", values, " and nibbles of ", nibble_rows, " x ", nibbles);
}
}  // namespace detail

/// Writes columns x depth weights as values (columns x depth / 2) and nibbles (columns x depth / 8 bytes). Refuses
/// weights that are not 2:4: none is dropped.
template <class W>
constexpr status write(matrix_view<const W> weights, matrix_view<W> values,
                       matrix_view<std::uint8_t> nibbles) noexcept {
  if (status s = detail::check_shapes(weights.rows, weights.columns, values.rows, values.columns, nibbles.rows,
                                      nibbles.columns);
      !s.ok())
    return s;
  if (status s = n_of_m<2, 4>::check("two_of_four", weights.rows, weights.columns, weights.columns,
                                     [&](std::size_t c, std::size_t k) { return weights(c, k); });
      !s.ok())
    return s;
  for (std::size_t c = 0; c < weights.rows; ++c)
    for (std::size_t k = 0; k < weights.columns; k += 4) {
      const auto live = [&](std::size_t i) { return !(weights(c, k + i) == W{}); };
      const std::uint8_t code = nibble(live(0), live(1), live(2), live(3));
      std::size_t first = 0, second = 0;
      places_of(code, first, second);
      values(c, k / 2) = weights(c, k + first);
      values(c, k / 2 + 1) = weights(c, k + second);
      std::uint8_t& byte = nibbles(c, k / 8);
      byte = static_cast<std::uint8_t>(k % 8 == 0 ? code : byte | code << 4);
    }
  return {};
}

/// The weights that values and nibbles stand for. Refuses nibbles that name no two places in order.
template <class W>
constexpr status read(matrix_view<const W> values, matrix_view<const std::uint8_t> nibbles,
                      matrix_view<W> weights) noexcept {
  if (status s = detail::check_shapes(weights.rows, weights.columns, values.rows, values.columns, nibbles.rows,
                                      nibbles.columns);
      !s.ok())
    return s;
  std::size_t first = 0, second = 0;
  for (std::size_t c = 0; c < weights.rows; ++c)
    for (std::size_t k = 0; k < weights.columns; k += 4) {
      const unsigned code = nibbles(c, k / 8) >> (k % 8) & 15U;
      if (!places_of(code, first, second))
        return status::make(errc::corrupt, "two_of_four: expected two places in order, got the nibble ", code,
                            " for k ", k, " of column ", c);
    }
  for (std::size_t c = 0; c < weights.rows; ++c)
    for (std::size_t k = 0; k < weights.columns; k += 4) {
      places_of(nibbles(c, k / 8) >> (k % 8) & 15U, first, second);
      for (std::size_t i = 0; i < 4; ++i) weights(c, k + i) = W{};
      weights(c, k + first) = values(c, k / 2);
      weights(c, k + second) = values(c, k / 2 + 1);
    }
  return {};
}

}  // namespace two_of_four
}  // namespace policy
POLYMAC_END
