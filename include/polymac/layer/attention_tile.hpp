// SPDX-License-Identifier: MIT
// One tile of attention: some rows (queries x heads of a group) against all keys that one of them sees.
//
//     for each block of keys                                        in panels, from a source
//       scores  = queries x keys                                    kernel/contract.hpp
//       weights = 2^(scores - maximum), sums, factors               kernel/online_softmax.hpp, row by row
//       outputs = outputs * factor + weights x values               kernel/contract.hpp, added to what is there
//     result = outputs / sums
//
//                        keys of a block                     values
//                     +--------------------+              +----------+
//     queries  rows   | scores -> weights  |   x tokens   |          |   = outputs
//                     +--------------------+              +----------+
//
// Blocks that no row sees are not touched, and of others no more than what is between the first and the last key that
// some row sees. Scores of a tile lie in L2 at most; queries, and outputs as floats, in L1.
#pragma once

#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/epilogue/epilogue.hpp"
#include "polymac/kernel/contract.hpp"
#include "polymac/kernel/online_softmax.hpp"
#include "polymac/kernel/operands.hpp"
#include "polymac/kernel/panel_range.hpp"
#include "polymac/kernel/scale_row.hpp"
#include "polymac/layer/attention_options.hpp"
#include "polymac/layer/attention_panels.hpp"
#include "polymac/layer/attention_product.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/matrix_rows.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// The types of attention with arithmetic M on instruction set I, and its extents that do not depend on shapes.
template <Mac M, Isa I>
struct attention_types {
  using isa = I;
  using product = attention_product<M>;
  using score_mac = typename product::scores;
  using value_mac = typename product::template values<I>;
  using score_atom = polymac::isa::best_atom<score_mac, I>;
  using value_atom = polymac::isa::best_atom<value_mac, I>;
  using key_panels = operand_panels<score_atom>;
  using value_panels = operand_panels<value_atom>;
  using query_operand = typename score_mac::activation;
  using weight_operand = typename value_mac::activation;
  using score = typename mac_traits<score_mac>::sum;
  using value_sum = typename mac_traits<value_mac>::sum;
  using key_start = typename mac_traits<score_mac>::accumulator;
  using value_start = typename mac_traits<value_mac>::accumulator;
  using row = kernel::score_row<I>;
  static_assert(sizeof(score) == sizeof(float) && sizeof(value_sum) == sizeof(float));
  static_assert(std::is_same_v<key_start, score> && std::is_same_v<value_start, value_sum>);
  /// Weights take the place of their scores.
  static constexpr bool in_place = std::is_same_v<weight_operand, float>;

  /// Are both products there on matrix registers, too? Those read rows and panels by whole steps, in which sums of floats
  /// are rounded: where steps begin must not depend on what part of the work a call does. So panels hold whole steps,
  /// and blocks of keys begin and end with them.
  static constexpr bool has_tiles = kernel::has_tiles<score_atom> && kernel::has_tiles<value_atom>;
  template <class Atom>
  static constexpr std::size_t step_of() noexcept {
    if constexpr (has_tiles)
      return Atom::tiles::max_groups * Atom::depth;
    else
      return Atom::depth;
  }
  static constexpr std::size_t key_step = step_of<score_atom>(), token_step = step_of<value_atom>();
  /// Rows of tiles come in so many. From `least_rows` on they are filled up: a product of two tiles takes as long as the
  /// same product of two to three rows on vector registers (5.5 ns; 2.4 ns a row of bytes, 4.7 ns of bf16).
  static constexpr std::size_t rows_of_tiles = 16, least_rows = 4;
  /// Are tiles worth it? Not where most of a step would be zeros.
  static constexpr bool suits_tiles(std::size_t key_size, std::size_t value_size) noexcept {
    return has_tiles && 2 * key_size >= key_step && 2 * value_size >= value_atom::columns;
  }
  /// What panels hold of a key, and for so many tokens.
  static constexpr std::size_t held_key(std::size_t key_size) noexcept {
    return polymac::detail::round_up(key_size, 2 * key_size >= key_step ? key_step : score_atom::depth);
  }
  static constexpr std::size_t held_tokens(std::size_t tokens) noexcept {
    return polymac::detail::round_up(tokens, token_step);
  }
  /// Blocks of keys begin at multiples of this ...
  static constexpr std::size_t granularity = polymac::detail::greater(std::size_t{score_atom::columns}, token_step);
  /// ... and their scores are weighed in multiples of that; what is there beyond the keys has no weight.
  static constexpr std::size_t weighed = polymac::detail::greater(row::step, token_step);

  /// Rows of a tile: whole tiles of both atoms where they agree; of matrix registers two blocks.
  static constexpr std::size_t rows = has_tiles                    ? 64
                                      : score_atom::max_rows >= 48 ? score_atom::max_rows
                                                                   : 48 / score_atom::max_rows * score_atom::max_rows;
  /// Keys of a block: a multiple of the columns of a panel and of the depth of a group. What a row costs beside its
  /// products is paid once for a block.
  static constexpr std::size_t block = sizeof(query_operand) < 4 ? 512 : 256;
  static_assert(granularity % score_atom::columns == 0 && granularity % token_step == 0 && block % granularity == 0 &&
                weighed % row::step == 0 && weighed % token_step == 0 && block % weighed == 0);
};

/// A block of keys and values in panels.
template <class T>
struct key_block {
  const typename T::key_panels::element* keys = nullptr;  ///< the panel of the first key
  std::size_t key_stride = 0;
  const typename T::key_start* key_starts = nullptr;  ///< of the first key; the same for all where the stride is 0
  std::size_t key_start_stride = 0;
  const typename T::value_panels::element* values = nullptr;  ///< the group of the first token, in the first panel
  std::size_t value_stride = 0;
  const float* key_scales = nullptr;    ///< for each key, or none
  float key_scale = 1.0f;               ///< of all
  const float* value_scales = nullptr;  ///< for each token, or none
  float value_scale = 1.0f;             ///< not less than any of them
};

/// A row of a tile: one query of one head. All of it is set when a row is taken in: zeros before that, for as many rows
/// as a tile may have, took 2 % of the time of a token where heads are small.
struct attention_row {
  const float* query;
  float* output;
  std::size_t head;
  std::size_t place_query;  ///< the number of the query
  const float* added;
  const bool* kept;
};

/// What a tile needs to know of the call.
struct attention_problem {
  const attention_options* options = nullptr;
  const attention_shape* shape = nullptr;
  std::size_t queries = 0, keys = 0;
  float scale = 1.0f;  ///< above 0; `negative`: its sign goes to the queries
  bool negative = false;
  bool masked = false;
  bool reports_sums = false;
  bool on_tiles = false;  ///< of all queries, or of none: a call of some of them gives the same bits
};

/// The memory of a tile, in a workspace.
template <class T>
struct tile_memory {
  typename T::query_operand* queries = nullptr;  ///< rows x T::held_key
  typename T::score* scores = nullptr;           ///< rows x block
  typename T::weight_operand* weights = nullptr;
  float* outputs = nullptr;                   ///< rows x held values
  typename T::value_sum* products = nullptr;  ///< the same, where operands have scales
  float* query_scales = nullptr;
  std::size_t width = 0;  ///< keys of a block

  static constexpr std::size_t held_values(const attention_shape& s) noexcept {
    return polymac::detail::round_up(s.value_size, T::value_atom::columns);
  }
  static tile_memory place(const attention_shape& s, std::size_t rows, std::size_t keys,
                           workspace_pieces& pieces) noexcept {
    const auto take = [&]<class X>(X*, std::size_t count) { return pieces.take<X>(count); };
    tile_memory m;
    m.width = block_width(keys);
    if constexpr (T::has_tiles) rows = polymac::detail::round_up(rows, T::rows_of_tiles);
    m.queries = take(m.queries, rows * T::held_key(s.key_size));
    m.scores = take(m.scores, rows * m.width);
    m.outputs = take(m.outputs, rows * held_values(s));
    m.query_scales = take(m.query_scales, rows);
    if constexpr (T::in_place)
      m.weights = m.scores;
    else
      m.weights = take(m.weights, rows * m.width);
    if constexpr (T::product::has_scales) m.products = take(m.products, rows * held_values(s));
    return m;
  }
  /// Keys of a block where there are so many at all.
  static constexpr std::size_t block_width(std::size_t keys) noexcept {
    constexpr std::size_t step = polymac::detail::greater(T::weighed, T::granularity);
    return polymac::detail::smaller(T::block, polymac::detail::round_up(keys > 0 ? keys : 1, step));
  }
};

/// Zeros that sums start from.
template <class Start, std::size_t Columns>
inline constexpr Start zero_starts[Columns]{};

template <Mac M, Isa I>
class attention_tile {
  using T = attention_types<M, I>;
  using product = typename T::product;
  using row_type = typename T::row;
  static constexpr std::size_t most_rows = T::rows;
  static constexpr float nothing_seen = -std::numeric_limits<float>::infinity();

 public:
  attention_tile(const attention_problem& of, const tile_memory<T>& memory) noexcept : of_(of), memory_(memory) {}

  /// Begins with `count` rows, at most T::rows.
  void begin(const attention_row* rows, std::size_t count) noexcept {
    rows_ = rows;
    count_ = count;
    const std::size_t depth = T::held_key(of_.shape->key_size);
    const bool as_they_are = queries_fit(rows, count, depth);
    queries_ = memory_.queries;
    if constexpr (std::is_same_v<typename T::query_operand, float>)
      if (as_they_are) queries_ = rows[0].query;
    for (std::size_t r = 0; r < count; ++r) {
      if (as_they_are)
        memory_.query_scales[r] = 1.0f;
      else
        encode_query(rows[r].query, memory_.queries + r * depth, depth, memory_.query_scales[r]);
      sums_[r] = {};
      shifts_[r] = 0.0f;
    }
    // Weights of such rows may be anything: every sum is of one row.
    if constexpr (T::has_tiles)
      for (std::size_t i = count * depth; i < held_rows() * depth; ++i) memory_.queries[i] = {};
    fresh_ = true;
  }

  /// Takes in the keys [first, last) of `source`, whose number `first` is key number `number` of the sequence. Keys that
  /// the rows see are told by their numbers.
  ///   between(row)                                   is called behind each row of a block
  ///   source.block(begin, count) -> key_block<T>     begin: a multiple of `granularity`; count: at most T::block. Values
  ///                                                  of tokens up to T::held_tokens(count) can be read, and are finite
  ///   source.near_keys()                             optional: keys that it had better be asked for at a time
  ///   Source::fetches_ahead, source.fetch_keys(begin, end), source.fetch_values(begin, end)
  ///                                                  can it ask for them to be brought near?
  ///   source.key_offset()                             what keys were packed less of, or null; the same for all of a row
  static constexpr std::size_t granularity = T::granularity;
  template <class Source, class Between>
  void take(const Source& source, std::size_t first, std::size_t last, std::size_t number,
            const Between& between) noexcept {
    if (source.key_offset() != nullptr &&
        (of_.options->softcap > 0.0f || !of_.options->sinks.empty() || of_.reports_sums))
      for (std::size_t r = 0; r < count_; ++r) shifts_[r] = shift_of(rows_[r].query, source.key_offset());
    seen_keys all{last, first};
    for (std::size_t r = 0; r < count_; ++r) {
      const seen_keys seen = keys_seen(*of_.options, rows_[r].place_query, of_.queries, of_.keys);
      // From numbers to places in the source.
      seen_[r].begin = polymac::detail::greater(seen.begin, number) - number + first;
      seen_[r].end = polymac::detail::smaller(seen.end > number ? seen.end - number + first : first, last);
      if (seen_[r].begin >= seen_[r].end) {
        seen_[r] = {first, first};
        continue;
      }
      all.begin = polymac::detail::smaller(all.begin, seen_[r].begin);
      all.end = polymac::detail::greater(all.end, seen_[r].end);
    }
    [[maybe_unused]] const auto session = [&] {
      if constexpr (T::has_tiles)
        return kernel::tile_session<typename T::score_atom>(of_.on_tiles);
      else
        return nullptr;
    }();
    // The same for any number of rows: how sums are cut decides about their last bits.
    std::size_t step = memory_.width;
    if constexpr (requires { source.near_keys(); }) step = polymac::detail::smaller(step, source.near_keys());
    for (std::size_t at = all.begin / granularity * granularity, end; at < all.end; at = end) {
      end = polymac::detail::smaller((at / step + 1) * step, all.end);
      if (!of_.masked || sees_any(at, end, first, number)) take_block(source, at, end, first, number, between);
    }
  }

  /// The sums of row r, of everything that has been taken.
  kernel::softmax_sums sums(std::size_t r) const noexcept {
    kernel::softmax_sums s = sums_[r];
    s.maximum += missing(r) * kernel::log2_e;
    return s;
  }
  /// Adds a logit to the sums, without a value. It may be the largest one: sums are joined with those of other parts.
  void add_sink(std::size_t r, float sink) noexcept {
    using one = isa::float_lanes<isa::scalar>;
    const float logit = (sink - missing(r)) * kernel::log2_e;
    rescale(r, sums_[r].raise_to(logit));
    sums_[r].sum += kernel::power_of_two<kernel::exponential::single, one>(logit - sums_[r].reference());
  }
  /// Writes the results; rows that have seen no key are zeros. value_scales: of the elements of a value, or none.
  void finish(const float* value_scales) noexcept {
    const std::size_t held = tile_memory<T>::held_values(*of_.shape), size = of_.shape->value_size;
    if (fresh_)
      for (std::size_t i = 0; i < count_ * held; ++i) memory_.outputs[i] = 0.0f;
    for (std::size_t r = 0; r < count_; ++r) {
      const float sum = sums_[r].sum, inverse = sum == 0.0f ? 0.0f : 1.0f / sum;
      kernel::scale_row<I>(memory_.outputs + r * held, rows_[r].output, size, inverse, value_scales);
    }
  }

 private:
  /// Can queries be read where they are? Not those with gaps between them: at a multiple of 4 KiB they would share a set
  /// of L1.
  bool queries_fit(const attention_row* rows, std::size_t count, std::size_t depth) const noexcept {
    if (!std::is_same_v<typename T::query_operand, float> || of_.negative || depth != of_.shape->key_size) return false;
    for (std::size_t r = 1; r < count; ++r)
      if (rows[r].query != rows[r - 1].query + depth) return false;
    return true;
  }
  /// What the scores of a query lack where keys were packed less an offset. Softmax does not see it, but a softcap, a
  /// sink, and the sums of other parts do.
  float shift_of(const float* query, const float* offset) const noexcept {
    double sum = 0.0;
    for (std::size_t k = 0; k < of_.shape->key_size; ++k)
      sum += static_cast<double>(query[k]) * static_cast<double>(offset[k]);
    return static_cast<float>(sum * static_cast<double>(of_.options->scale));
  }
  /// The same, of the scores as they were weighed: a softcap has added it.
  float missing(std::size_t r) const noexcept { return of_.options->softcap > 0.0f ? 0.0f : shifts_[r]; }

  void encode_query(const float* query, typename T::query_operand* to, std::size_t depth, float& scale) noexcept {
    using operand = typename T::query_operand;
    const std::size_t size = of_.shape->key_size;
    if constexpr (product::has_scales) {
      using codes = typename product::codes;
      scale = codes::scale_of(kernel::largest_magnitude<I>(query, nullptr, size));
      const float inverse = of_.negative ? -codes::inverse_of(scale) : codes::inverse_of(scale);
      kernel::to_codes<I, true>(query, nullptr, &inverse, codes::limit, to, size);
    } else {
      scale = 1.0f;
      if (of_.negative)
        for (std::size_t k = 0; k < size; ++k) to[k] = static_cast<operand>(-query[k]);
      else
        kernel::to_operands<I>(query, to, size);
    }
    for (std::size_t k = size; k < depth; ++k) to[k] = operand{};
  }

  /// Does the mask leave any key of [at, end) to a row?
  bool sees_any(std::size_t at, std::size_t end, std::size_t first, std::size_t number) const noexcept {
    for (std::size_t r = 0; r < count_; ++r) {
      const std::size_t from = polymac::detail::greater(at, seen_[r].begin);
      const std::size_t to = polymac::detail::smaller(end, seen_[r].end);
      for (std::size_t j = from; j < to; ++j) {
        const std::size_t key = j - first + number;
        if (rows_[r].kept != nullptr ? rows_[r].kept[key] : rows_[r].added[key] != nothing_seen) return true;
      }
    }
    return false;
  }

  /// So few rows wait for keys and values to come from memory; on matrix registers a tile of them does. What comes next
  /// is asked for before each product: values, then the keys of the next block, for no hardware knows where those are.
  static constexpr std::size_t rows_that_wait = 2;

  template <class Source, class Between>
  void take_block(const Source& source, std::size_t at, std::size_t end, std::size_t first, std::size_t number,
                  const Between& between) noexcept {
    const std::size_t keys = end - at;
    const key_block<T> block = source.block(at, keys);
    const std::size_t held = tile_memory<T>::held_values(*of_.shape), query_stride = T::held_key(of_.shape->key_size);
    // Vector registers take no more than there is.
    const bool whole = T::has_tiles && of_.on_tiles;
    const std::size_t rows = held_rows(), depth = whole ? query_stride : round_up_depth(of_.shape->key_size);
    const std::size_t columns = whole ? polymac::detail::round_up(keys, T::score_atom::columns) : keys;
    const std::size_t tokens = whole ? T::held_tokens(keys) : polymac::detail::round_up(keys, T::value_atom::depth);
    const bool fetches = Source::fetches_ahead && count_ <= (whole ? T::rows_of_tiles : rows_that_wait);
    if constexpr (Source::fetches_ahead)
      if (fetches) source.fetch_values(at, end);
    multiply(kernel::panel_range<typename T::score_atom>(block.keys, block.key_stride, columns, depth, block.key_starts,
                                                         block.key_start_stride, source.key_summary()),
             matrix_view<const typename T::query_operand>(queries_, rows, depth, query_stride),
             matrix_view<typename T::score>(memory_.scores, rows, columns, memory_.width));
    for (std::size_t r = 0; r < count_; ++r) {
      weigh_row(r, block, at, end, first, number);
      between(r);
    }
    if constexpr (Source::fetches_ahead)
      if (fetches) source.fetch_keys(end, end + keys);
    const matrix_view<const typename T::weight_operand> weights(memory_.weights, rows, tokens, memory_.width);
    const kernel::panel_range<typename T::value_atom> range(
        block.values, block.value_stride, held, tokens, zero_starts<typename T::value_start, T::value_atom::columns>, 0,
        source.value_summary());
    if constexpr (product::has_scales) {
      multiply(range, weights, matrix_view<typename T::value_sum>(memory_.products, rows, held));
      add_products(block.value_scale * (1.0f / product::template weight_limit<I>));
    } else {
      // The first products take the place of the sums; so they need not be zeros.
      if (fresh_)
        multiply(range, weights, matrix_view<float>(memory_.outputs, rows, held));
      else
        multiply(range, weights, kernel::running_sums<float>{memory_.outputs, held});
    }
    fresh_ = false;
  }

  /// Rows that are multiplied.
  std::size_t held_rows() const noexcept {
    if constexpr (T::has_tiles)
      if (of_.on_tiles) return polymac::detail::round_up(count_, T::rows_of_tiles);
    return count_;
  }
  static constexpr std::size_t round_up_depth(std::size_t key_size) noexcept {
    return polymac::detail::round_up(key_size, T::score_atom::depth);
  }
  /// y = x * panels, or y += where it holds running sums.
  template <class Atom, class Operand, class Output>
  POLYMAC_INLINE void multiply(const kernel::panel_range<Atom>& panels, const matrix_view<const Operand>& x,
                               const Output& y) const noexcept {
    if constexpr (T::has_tiles)
      if (of_.on_tiles)
        return kernel::contract_in_session<Atom>(panels, 0, matrix_tiles<Operand>{x}, epilogue::identity{}, y, 0,
                                                 x.rows);
    kernel::contract<Atom>(panels, 0, matrix_source<Operand>{x}, epilogue::identity{}, y, {}, {});
  }

  /// Scores of row r to weights; its outputs to the new maximum.
  void weigh_row(std::size_t r, const key_block<T>& block, std::size_t at, std::size_t end, std::size_t first,
                 std::size_t number) noexcept {
    typename T::score* const scores = memory_.scores + r * memory_.width;
    // Scores of integers become floats where each has a scale, or something is added: in the place where they are.
    float* const reals = reinterpret_cast<float*>(scores);
    const std::size_t held = polymac::detail::round_up(end - at, T::weighed);
    const std::size_t from = polymac::detail::smaller(polymac::detail::greater(at, seen_[r].begin), end) - at;
    const std::size_t to = polymac::detail::smaller(polymac::detail::greater(at, seen_[r].end), end) - at;
    typename T::weight_operand* const weights = memory_.weights + r * memory_.width;
    if (from >= to) {
      for (std::size_t j = 0; j < held; ++j) weights[j] = typename T::weight_operand{};
      return;
    }
    const attention_options& o = *of_.options;
    const bool changes = o.softcap > 0.0f || !o.slopes.empty() || of_.masked;
    const float scale = of_.scale * memory_.query_scales[r] * block.key_scale;
    float factor = scale * kernel::log2_e;
    // Not 0, which it is where all codes are 0: -infinity times 0 is NaN.
    if (factor < std::numeric_limits<float>::min()) factor = std::numeric_limits<float>::min();
    float most;
    if (changes) {
      change_scores(r, scores, reals, block.key_scales, scale, at - first + number, from, to, held);
      factor = kernel::log2_e;
    } else if (block.key_scales != nullptr) {
      most = row_type::scale(scores, reals, held, block.key_scales);
      if (from == 0 && to == held)
        return weigh(r, reals, weights, held, factor, block.value_scales, block.value_scale, most);
    } else if (from == 0 && to == held) {
      return weigh(r, scores, weights, held, factor, block.value_scales, block.value_scale,
                   row_type::largest(scores, held));
    } else if constexpr (!std::is_same_v<typename T::score, float>) {
      row_type::convert(scores, reals, held);
    }
    for (std::size_t j = 0; j < from; ++j) reals[j] = nothing_seen;
    for (std::size_t j = to; j < held; ++j) reals[j] = nothing_seen;
    most = row_type::largest(reals, held);
    weigh(r, reals, weights, held, factor, block.value_scales, block.value_scale, most);
  }

  /// Outputs of row r to another maximum.
  POLYMAC_INLINE void rescale(std::size_t r, float change) noexcept {
    if (change == 1.0f || fresh_) return;
    const std::size_t values = tile_memory<T>::held_values(*of_.shape);
    float* const outputs = memory_.outputs + r * values;
    kernel::scale_row<I>(outputs, outputs, values, change);
  }

  template <class Score>
  POLYMAC_INLINE void weigh(std::size_t r, const Score* scores, typename T::weight_operand* weights, std::size_t held,
                            float factor, const float* value_scales, [[maybe_unused]] float value_scale,
                            float most) noexcept {
    constexpr kernel::exponential precision = product::precision;
    // Codes of 8 bits and floats do not see by how much a weight may be above 1.
    constexpr bool exact = product::has_scales && precision == kernel::exponential::single;
    rescale(r, sums_[r].raise_to(exact ? row_type::maximum_of(most, factor) : most * factor));
    const float reference = sums_[r].reference();
    if constexpr (product::has_scales) {
      constexpr float limit = product::template weight_limit<I>;
      if (value_scales != nullptr)
        sums_[r].sum += row_type::template weigh<precision, kernel::weight_scale::each>(
            scores, held, factor, reference, weights, value_scale > 0.0f ? limit / value_scale : 0.0f, value_scales);
      else if constexpr (precision == kernel::exponential::coarse)
        // The limit is part of the exponent, whose last bits codes of 8 bits do not see.
        sums_[r].sum +=
            row_type::template weigh<precision>(scores, held, factor, reference - std::log2(limit), weights) *
            (1.0f / limit);
      else
        sums_[r].sum += row_type::template weigh<precision, kernel::weight_scale::one>(scores, held, factor, reference,
                                                                                       weights, limit);
    } else {
      static_cast<void>(value_scales);
      sums_[r].sum += row_type::template weigh<precision>(scores, held, factor, reference, weights);
    }
  }

  /// Scale, softcap, slopes and masks, in this order; reals in units of 1.
  POLYMAC_NOINLINE void change_scores(std::size_t r, const typename T::score* scores, float* reals,
                                      const float* key_scales, float scale, std::size_t key, std::size_t from,
                                      std::size_t to, std::size_t held) noexcept {
    const attention_options& o = *of_.options;
    const attention_row& row = rows_[r];
    using lanes = typename row_type::lanes;
    const auto factor = lanes::broadcast(scale), shift = lanes::broadcast(o.softcap > 0.0f ? shifts_[r] : 0.0f);
    for (std::size_t j = 0; j < held; j += lanes::width) {
      auto s = lanes::multiply(row_type::load(scores + j), factor);
      if (key_scales != nullptr) s = lanes::multiply(s, lanes::load(key_scales + j));
      lanes::store(reals + j, lanes::add(s, shift));
    }
    if (o.softcap > 0.0f) row_type::cap(reals, held, o.softcap);
    if (!o.slopes.empty()) {
      const float slope = o.slopes[row.head];
      const bool from_end = o.direction != causal::top_left;
      const double place = static_cast<double>(row.place_query) +
                           (from_end ? static_cast<double>(of_.keys) - static_cast<double>(of_.queries) : 0.0);
      // A block may begin in places of a ring before its first key.
      const auto begin = static_cast<float>(static_cast<double>(static_cast<std::ptrdiff_t>(key)) - place);
      for (std::size_t j = from; j < to; ++j) {
        const float distance = begin + static_cast<float>(j);
        reals[j] -= slope * (distance < 0.0f ? -distance : distance);
      }
    }
    if (row.added != nullptr)
      for (std::size_t j = from; j < to; ++j) reals[j] += row.added[key + j];
    if (row.kept != nullptr)
      for (std::size_t j = from; j < to; ++j) reals[j] = row.kept[key + j] ? reals[j] : nothing_seen;
  }

  void add_products(float scale) noexcept {
    const std::size_t count = count_ * tile_memory<T>::held_values(*of_.shape);
    using lanes = typename row_type::lanes;
    const auto s = lanes::broadcast(scale), zero = lanes::broadcast(0.0f);
    std::size_t i = 0;
    for (; i + lanes::width <= count; i += lanes::width)
      lanes::store(memory_.outputs + i, lanes::multiply_add(row_type::load(memory_.products + i), s,
                                                            fresh_ ? zero : lanes::load(memory_.outputs + i)));
    for (; i < count; ++i)
      memory_.outputs[i] = static_cast<float>(memory_.products[i]) * scale + (fresh_ ? 0.0f : memory_.outputs[i]);
  }

  const attention_problem& of_;
  tile_memory<T> memory_;
  const attention_row* rows_ = nullptr;
  std::size_t count_ = 0;
  const typename T::query_operand* queries_ = nullptr;
  bool fresh_ = true;  ///< nothing has been added up
  kernel::softmax_sums sums_[most_rows];
  float shifts_[most_rows];
  seen_keys seen_[most_rows];
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
