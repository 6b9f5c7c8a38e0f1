// SPDX-License-Identifier: MIT
// Weights of which whole blocks are 0: those are left out, by a list for every panel.
//
//              16 columns                 what is stored             the list
//     k 0..3   0 0 0 ... 0
//     k 4..7   w w 0 ... w          ->    k 4..7                     1, 3
//     k 8..11  0 0 0 ... 0                k 12..15
//     k 12..15 0 w w ... w
//
// No activation is selected, so a product costs what it costs in the dense kernel, but for the address: the best that
// sparsity can do on a CPU. Pruned columns of strips of a matrix (RTMobile, DAC 2020), patterns of a kernel that all
// filters of a tile share (PatDNN, ASPLOS 2020) and pruned input channels are such weights.
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/core/view.hpp"
#include "polymac/policy/blocks.hpp"
#include "polymac/policy/policy.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

POLYMAC_BEGIN
namespace policy {

struct block_list_atoms;

/// Blocks of 4 Quads k x Channels columns that are 0 are left out. Any weights may be used: what is found to be 0 is
/// left out, for groups of k as the instruction set takes them (4 of int8) and Channels columns, or fewer where its
/// tiles have fewer. Blocks do not reach from one tap of a kernel into the next.
template <std::size_t Quads = 1, std::size_t Channels = 16>
struct block_list : policy {
  static_assert(Quads > 0 && (Channels == 16 || Channels == 32),
                "polymac: block_list<Quads, Channels> has blocks of 4 Quads k x 16 or 32 columns");
  using atoms = block_list_atoms;
  using weaker = void;
  static constexpr std::size_t depth = 4 * Quads, channels = Channels;
  static constexpr std::size_t channel_group = 4;

 private:
  static constexpr auto text_ = text<47>::join("block_list<", Quads, ", ", Channels, ">");

 public:
  static constexpr const char* name = text_.c_str();
  template <class WeightOf>
  static constexpr status check(const char*, std::size_t, std::size_t, std::size_t, const WeightOf&) noexcept {
    return {};
  }
};

namespace detail {

template <class P>
concept BlockList = requires {
  P::depth + P::channels;
};

/// Sets all blocks to 0 but the `kept` of the largest sums of magnitudes; of equals the first ones, column by column.
template <class P, class At>
void prune_blocks(std::size_t columns, std::size_t depth, std::size_t run, double kept, const At& at) {
  using weight = std::remove_reference_t<decltype(at(0, 0))>;
  struct scored : block_range {
    decltype(magnitude_of(weight{})) score;
  };
  const auto for_each_weight = [&](const block_range& b, const auto& f) {
    for (std::size_t k = b.k; k < b.k_end; ++k)
      for (std::size_t c = b.column; c < b.column_end; ++c) f(at(c, k));
  };
  std::vector<scored> blocks;
  for_each_block(columns, P::channels, depth, run, P::depth, [&](const block_range& b) {
    scored s{b, {}};
    for_each_weight(b, [&](const weight& w) { s.score += magnitude_of(w); });
    blocks.push_back(s);
    return true;
  });
  std::stable_sort(blocks.begin(), blocks.end(), [](const scored& a, const scored& b) { return a.score > b.score; });
  const auto most = static_cast<std::size_t>(kept * static_cast<double>(blocks.size()) + 0.5);
  for (std::size_t i = most; i < blocks.size(); ++i) for_each_weight(blocks[i], [](weight& w) { w = weight{}; });
}

}  // namespace detail

/// Prunes columns x depth weights by blocks, in place: keeps the share `kept` of them (0 to 1), those of the largest sums
/// of magnitudes. P: a block_list. O(columns x depth), and sorting the blocks.
template <detail::BlockList P, class W>
void prune(matrix_view<W> weights, double kept) {
  detail::for_each_product(weights, [&](auto columns, auto depth, auto run, const auto& at) {
    detail::prune_blocks<P>(columns, depth, run, kept, at);
  });
}
/// The same of the weights of a convolution: output channels x height x width x input channels, in `groups` groups.
template <detail::BlockList P, class W>
void prune(image_view<W> weights, double kept, std::size_t groups = 1) {
  detail::for_each_product(weights, groups, [&](auto columns, auto depth, auto run, const auto& at) {
    detail::prune_blocks<P>(columns, depth, run, kept, at);
  });
}

}  // namespace policy
POLYMAC_END
