// SPDX-License-Identifier: MIT
// Scaled dot product attention.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/extents.hpp"
#include "polymac/core/view.hpp"
#include "polymac/cpu/permission.hpp"
#include "polymac/kernel/fetch.hpp"
#include "polymac/layer/attention_options.hpp"
#include "polymac/layer/attention_source.hpp"
#include "polymac/layer/attention_tile.hpp"
#include "polymac/layer/heads_bounds.hpp"
#include "polymac/layer/kv_cache.hpp"
#include "polymac/mac/float32.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace layer {

/// Results of attention over a part of the keys as they are joined: for every query and head (query after query) the
/// largest score, in units of log2(e), and the sum of the weights relative to it.
struct attention_sums {
  std::span<kernel::softmax_sums> of{};  ///< queries x query heads of one batch after the other

  constexpr bool exist() const noexcept { return !of.empty(); }
};

/// y[query][head] = sum over the keys j that the query sees of w[j] * v[j], w = softmax(s), s[j] = scale * q . k[j] with
/// softcap, slopes and masks as attention_options says. Two contractions of the one loop nest with an online softmax
/// between them (kernel/online_softmax.hpp): scores of a block of keys at a time, never all of them.
///
///   M    the arithmetic of both products: mac::float32, bf16, fp16, l_mul (operands are rounded), mac::int8 and
///        mac::dfp<std::int16_t> (operands become codes: layer/attention_product.hpp); softmax and sums between blocks
///        are float32 in any case
///   I    the instruction set
///
/// Queries, keys, values and results are floats, [batch][token][head][size] or [batch][head][token][size] or anything
/// else whose vectors are contiguous (heads_view). Values may be a view of the keys.
///
/// A row that sees no key gives zeros. NaN in a query, key or value that counts gives NaN. Keys that a mask hides have
/// weight 0; values of hidden keys shall be finite all the same, since 0 times infinity is NaN.
///
/// Running is noexcept, allocates nothing and starts no threads; a call computes what its attention_part says. Costs
/// 2 queries x keys that are seen x (key size + value size) multiply-adds, an exponential for each score, and packing
/// keys and values, which pays for some dozen queries: one query at a time wants a kv_cache, in which they are packed.
template <Mac M = mac::float32, Isa I = isa::native>
class attention {
  using types = detail::attention_types<M, I>;
  using head_source = detail::packed_head<types>;
  static constexpr std::size_t least_keys = 256;

 public:
  using mac = M;

  /// Copies slopes and sinks. Throws polymac::error (or sets `status()` where exceptions are off) on what does not fit.
  explicit attention(const attention_shape& shape, const attention_options& options = {})
      : shape_(shape), options_(options) {
    status_ = construct();
    polymac::detail::raise_unless_ok(status_);
  }
  attention(const attention& other) : attention(other.shape_, other.options()) {}
  attention& operator=(const attention&) = delete;

  const polymac::status& status() const noexcept { return status_; }
  const attention_shape& shape() const noexcept { return shape_; }

  /// Bytes of workspace for calls with at most so many queries and keys, at any alignment: a tile of rows, and the
  /// packed keys and values of one head.
  std::size_t workspace_bytes(std::size_t queries, std::size_t keys) const noexcept {
    detail::workspace_pieces pieces;
    static_cast<void>(tile_of(queries, keys, pieces));
    static_cast<void>(head_source::place(shape_, keys, pieces));
    return pieces.bytes();
  }
  /// For calls with a cache, which holds them packed.
  template <Mac C>
  std::size_t workspace_bytes(std::size_t queries, const kv_cache<C, I>& cache) const noexcept {
    detail::workspace_pieces pieces;
    static_cast<void>(tile_of(queries, cache.capacity(), pieces));
    static_cast<void>(kv_cache<C, I>::template reader<types>::place(cache, pieces));
    return pieces.bytes();
  }

  /// q: batch x queries x query heads x key size; k: batch x keys x key heads x key size; v: batch x keys x key heads x
  /// value size; y: batch x queries x query heads x value size. y must not overlap the others.
  ///   mask         what is added to the scores, or which keys are kept
  ///   key_counts   how many keys of each batch count, or none: all
  ///   part         what this call computes
  ///   sums         if there are any, they are written beside y: calls on several parts of the keys are joined by them.
  ///                Sinks belong to the part that begins with key 0 and is not empty
  /// Returns what does not fit, with nothing written.
  polymac::status operator()(heads_view<const float> q, heads_view<const float> k, heads_view<const float> v,
                             heads_view<float> y, workspace ws, const attention_mask& mask = {},
                             std::span<const std::size_t> key_counts = {}, const attention_part& part = {},
                             attention_sums sums = {}) const noexcept {
    if (auto s = check_call(q, k, v, y, mask, key_counts, sums); !s.ok()) return s;
    const std::size_t queries = part_queries(q.tokens, part), held = part_keys(k.tokens, part);
    if (auto s = detail::workspace_pieces::check("attention", ws, workspace_bytes(queries, held)); !s.ok()) return s;
    detail::workspace_pieces pieces(ws);
    const auto memory = tile_of(queries, held, pieces);
    auto source = head_source::place(shape_, held, pieces);
    const attention_options options = this->options();
    detail::attention_problem problem = problem_of(options, q.tokens, mask, sums);
    detail::attention_tile<M, I> tile(problem, memory);
    for (std::size_t n = 0; n < q.batch; ++n) {
      const std::size_t keys = problem.keys = key_counts.empty() ? k.tokens : key_counts[n];
      const std::size_t first = polymac::detail::smaller(part.keys.begin, keys);
      const std::size_t last = polymac::detail::smaller(part.keys.end, keys);
      heads_view<const float> held_keys = k, held_values = v;
      held_keys.tokens = held_values.tokens = keys;
      for_each_head(part, [&](std::size_t key_head, std::size_t head, std::size_t head_end) {
        if (first < last) source.pack(held_keys, held_values, n, key_head, first, last);
        run_head(
            tile, problem, q, y, n, head, head_end, mask, part, sums, source.value_scales(),
            [&](const auto& between) {
              if (first < last) tile.take(source, 0, last - first, first, between);
            },
            // The next head's keys and values come near meanwhile, where they leave room in L2.
            [&, fetched = first](std::size_t done, std::size_t all) mutable {
              if (head_end >= polymac::detail::smaller(part.heads.end, shape_.query_heads) || first >= last ||
                  (last - first) * (k.size + v.size) * sizeof(float) > kernel::detail::near_bytes)
                return;
              const std::size_t to = first + (last - first) * done / all;
              if (to <= fetched) return;
              fetch<false>(k, n, fetched, to, key_head + 1);
              fetch<false>(v, n, fetched, to, key_head + 1);
              fetched = to;
            });
      });
    }
    return {};
  }

  /// The same over a cache: batch 1, the queries are those of the last tokens that it holds, so that the directions and
  /// windows count from its end (causal::top_left is refused). The cache shall be of the same arithmetic, or keep its
  /// elements in one that becomes it.
  template <Mac C>
  polymac::status operator()(heads_view<const float> q, const kv_cache<C, I>& cache, heads_view<float> y, workspace ws,
                             const attention_mask& mask = {}, const attention_part& part = {},
                             attention_sums sums = {}) const noexcept {
    using reader = typename kv_cache<C, I>::template reader<types>;
    if (auto s = check_cache(q, cache.shape(), cache.status(), cache.size(), y, mask, sums); !s.ok()) return s;
    const std::size_t queries = part_queries(q.tokens, part);
    if (auto s = detail::workspace_pieces::check("attention", ws, workspace_bytes(queries, cache)); !s.ok()) return s;
    detail::workspace_pieces pieces(ws);
    const auto memory = tile_of(queries, cache.capacity(), pieces);
    auto source = reader::place(cache, pieces);
    const attention_options options = this->options();
    detail::attention_problem problem = problem_of(options, q.tokens, mask, sums);
    const std::size_t keys = problem.keys = cache.size();
    detail::attention_tile<M, I> tile(problem, memory);
    const std::size_t first = polymac::detail::smaller(part.keys.begin, keys);
    const std::size_t last = polymac::detail::smaller(part.keys.end, keys);
    for_each_head(part, [&](std::size_t key_head, std::size_t head, std::size_t head_end) {
      source.select(key_head);
      run_head(
          tile, problem, q, y, 0, head, head_end, mask, part, sums, nullptr,
          [&](const auto& between) {
            // At most two stretches of places: a ring goes on from its beginning.
            cache.for_each_stretch(first, last, [&](std::size_t place, std::size_t end, std::size_t number) {
              tile.take(source, place, end, number, between);
            });
          },
          [](std::size_t, std::size_t) {});
    });
    return {};
  }

  /// Joins results over two parts of the keys: `y` and its sums take in `other` and those of `other`. Exact but for
  /// rounding, in any order. Shapes as in the calls.
  polymac::status join(heads_view<float> y, attention_sums sums, heads_view<const float> other,
                       attention_sums other_sums) const noexcept {
    if (y.batch != other.batch || y.tokens != other.tokens || y.heads != other.heads || y.size != other.size ||
        y.heads != shape_.query_heads || y.size != shape_.value_size)
      return polymac::status::make(errc::shape, "attention: expected two results of n x tokens x ", shape_.query_heads,
                                   " x ", shape_.value_size, ", got ", y.tokens, " x ", y.heads, " x ", y.size, " and ",
                                   other.tokens, " x ", other.heads, " x ", other.size);
    const std::size_t count = y.batch * y.tokens * y.heads;
    if (sums.of.size() != count || other_sums.of.size() != count)
      return polymac::status::make(errc::shape, "attention: expected ", count, " sums for each part, got ",
                                   sums.of.size(), " and ", other_sums.of.size());
    for (std::size_t n = 0, i = 0; n < y.batch; ++n)
      for (std::size_t t = 0; t < y.tokens; ++t)
        for (std::size_t h = 0; h < y.heads; ++h, ++i) {
          const auto [mine, others] = sums.of[i].join(other_sums.of[i]);
          float* const to = y.at(n, t, h);
          const float* const from = other.at(n, t, h);
          for (std::size_t c = 0; c < y.size; ++c) to[c] = to[c] * mine + from[c] * others;
        }
    return {};
  }

  /// Arithmetic, instruction set, tiles and blocks, in words.
  text<511> explain() const noexcept {
    return text<511>::join("attention<", M::name, "> ", shape_.query_heads, " query heads, ", shape_.key_heads,
                           " key heads, sizes ", shape_.key_size, " and ", shape_.value_size, ": scores by the ",
                           types::score_atom::isa::name, " atom of ", types::score_mac::name, ", values by that of ",
                           types::value_mac::name, tiles_ ? ", from 4 rows on by matrix registers" : "", ", tiles of ",
                           types::rows, " rows, blocks of ", types::block, " keys, softmax ", types::row::lanes::width,
                           " at a time");
  }

 private:
  std::size_t group() const noexcept { return shape_.query_heads / shape_.key_heads; }
  std::size_t tile_rows(std::size_t queries) const noexcept {
    return polymac::detail::smaller(types::rows, queries > types::rows ? types::rows : queries * group());
  }
  auto tile_of(std::size_t queries, std::size_t keys, detail::workspace_pieces& pieces) const noexcept {
    return detail::tile_memory<types>::place(shape_, tile_rows(queries), keys, pieces);
  }
  static std::size_t part_queries(std::size_t queries, const attention_part& part) noexcept {
    const std::size_t end = polymac::detail::smaller(part.queries.end, queries);
    return end > part.queries.begin ? end - part.queries.begin : 0;
  }
  static std::size_t part_keys(std::size_t keys, const attention_part& part) noexcept {
    const std::size_t end = polymac::detail::smaller(part.keys.end, keys);
    return end > part.keys.begin ? end - part.keys.begin : 0;
  }

  attention_options options() const noexcept {
    attention_options o = options_;
    o.slopes = {slopes_.data(), slopes_.size()};
    o.sinks = {sinks_.data(), sinks_.size()};
    return o;
  }

  polymac::status construct() noexcept {
    if (auto s = detail::check("attention", shape_, options_); !s.ok()) return s;
    if (options_.scale == 0.0f)
      options_.scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(shape_.key_size)));
    // A sum of codes stays within 32 bits.
    if (shape_.key_size > mac_traits<typename types::score_mac>::max_depth)
      return polymac::status::make(errc::shape, "attention: expected a key size of at most ",
                                   mac_traits<typename types::score_mac>::max_depth, ", got ", shape_.key_size);
    if (auto s = slopes_.resize(options_.slopes.size()); !s.ok()) return s;
    if (auto s = sinks_.resize(options_.sinks.size()); !s.ok()) return s;
    for (std::size_t h = 0; h < slopes_.size(); ++h) slopes_[h] = options_.slopes[h];
    for (std::size_t h = 0; h < sinks_.size(); ++h) sinks_[h] = options_.sinks[h];
    options_.slopes = options_.sinks = {};  // theirs may go
    if constexpr (types::has_tiles)
      tiles_ = types::suits_tiles(shape_.key_size, shape_.value_size) && cpu::permits_tiles();
    return {};
  }

  polymac::status check_queries(const heads_view<const float>& q, const heads_view<float>& y,
                                const attention_sums& sums) const noexcept {
    if (!status_.ok()) return status_;
    if (q.heads != shape_.query_heads || q.size != shape_.key_size || y.heads != shape_.query_heads ||
        y.size != shape_.value_size || y.batch != q.batch || y.tokens != q.tokens)
      return polymac::status::make(errc::shape, "attention: expected q of batch x tokens x ", shape_.query_heads, " x ",
                                   shape_.key_size, " and y of batch x tokens x ", shape_.query_heads, " x ",
                                   shape_.value_size, ", got ", q.batch, " x ", q.tokens, " x ", q.heads, " x ", q.size,
                                   " and ", y.batch, " x ", y.tokens, " x ", y.heads, " x ", y.size);
    if (auto s = detail::expect_head_vectors("attention", "queries", q, q.batch, q.tokens, q.heads, q.size, false);
        !s.ok())
      return s;
    if (auto s = detail::expect_head_vectors("attention", "results", y, y.batch, y.tokens, y.heads, y.size, true);
        !s.ok())
      return s;
    if (sums.exist() && sums.of.size() != q.batch * q.tokens * q.heads)
      return polymac::status::make(errc::shape, "attention: expected ", q.batch * q.tokens * q.heads, " sums, got ",
                                   sums.of.size());
    return {};
  }
  polymac::status check_call(const heads_view<const float>& q, const heads_view<const float>& k,
                             const heads_view<const float>& v, const heads_view<float>& y, const attention_mask& mask,
                             std::span<const std::size_t> key_counts, const attention_sums& sums) const noexcept {
    if (auto s = check_queries(q, y, sums); !s.ok()) return s;
    if (k.heads != shape_.key_heads || k.size != shape_.key_size || v.heads != shape_.key_heads ||
        v.size != shape_.value_size || k.batch != q.batch || v.batch != q.batch || v.tokens != k.tokens)
      return polymac::status::make(errc::shape, "attention: expected k of ", q.batch, " x tokens x ", shape_.key_heads,
                                   " x ", shape_.key_size, " and v of ", q.batch, " x ", k.tokens, " x ",
                                   shape_.key_heads, " x ", shape_.value_size, ", got ", k.batch, " x ", k.tokens,
                                   " x ", k.heads, " x ", k.size, " and ", v.batch, " x ", v.tokens, " x ", v.heads,
                                   " x ", v.size);
    if (auto s = detail::expect_head_vectors("attention", "keys", k, k.batch, k.tokens, k.heads, k.size, false);
        !s.ok())
      return s;
    if (auto s = detail::expect_head_vectors("attention", "values", v, v.batch, v.tokens, v.heads, v.size, false);
        !s.ok())
      return s;
    if (mask.added != nullptr && mask.kept != nullptr)
      return polymac::status::make(errc::parameter, "attention: expected a mask that adds or one that keeps, got both");
    if (!key_counts.empty() && key_counts.size() != q.batch)
      return polymac::status::make(errc::shape, "attention: expected a count of keys for each of ", q.batch,
                                   " batches or none, got ", key_counts.size());
    for (std::size_t n = 0; n < key_counts.size(); ++n)
      if (key_counts[n] > k.tokens)
        return polymac::status::make(errc::shape, "attention: expected at most ", k.tokens, " keys, got ",
                                     key_counts[n], " for batch ", n);
    return {};
  }
  polymac::status check_cache(const heads_view<const float>& q, const kv_cache_shape& cache,
                              const polymac::status& state, std::size_t size, const heads_view<float>& y,
                              const attention_mask& mask, const attention_sums& sums) const noexcept {
    if (!state.ok()) return state;
    if (auto s = check_queries(q, y, sums); !s.ok()) return s;
    if (cache.heads != shape_.key_heads || cache.key_size != shape_.key_size || cache.value_size != shape_.value_size)
      return polymac::status::make(errc::shape, "attention: expected a cache of ", shape_.key_heads, " heads, sizes ",
                                   shape_.key_size, " and ", shape_.value_size, ", got ", cache.heads, ", ",
                                   cache.key_size, " and ", cache.value_size);
    if (q.batch > 1)
      return polymac::status::make(errc::shape, "attention: a cache holds one sequence, got queries of batch ",
                                   q.batch);
    if (options_.direction == causal::top_left)
      return polymac::status::make(errc::unsupported,
                                   "attention: the queries of a cache are its last tokens: expected "
                                   "causal::bottom_right or causal::none");
    if (options_.direction == causal::bottom_right && q.tokens > size && cache.form != cache_form::ring)
      return polymac::status::make(errc::shape, "attention: expected at most ", size,
                                   " queries, as many as the cache has tokens, got ", q.tokens);
    if (mask.added != nullptr && mask.kept != nullptr)
      return polymac::status::make(errc::parameter, "attention: expected a mask that adds or one that keeps, got both");
    return {};
  }
  /// Calls f(key head, first query head, query head behind the last) for the query heads of the part.
  template <class Function>
  void for_each_head(const attention_part& part, const Function& f) const noexcept {
    const std::size_t end = polymac::detail::smaller(part.heads.end, shape_.query_heads);
    for (std::size_t h = part.heads.begin; h < end;) {
      const std::size_t key_head = h / group(), last = polymac::detail::smaller((key_head + 1) * group(), end);
      f(key_head, h, last);
      h = last;
    }
  }

  /// Asks for the vectors of the tokens [first, last) of a head to be brought near, to be read or written.
  template <bool Written, class X>
  static void fetch(const heads_view<X>& v, std::size_t n, std::size_t first, std::size_t last,
                    std::size_t head) noexcept {
    for (std::size_t t = first; t < last; ++t) kernel::fetch<Written>(v.at(n, t, head), v.size);
  }

  /// What a tile needs to know but the keys; `options` lives as long as the result.
  detail::attention_problem problem_of(const attention_options& options, std::size_t queries,
                                       const attention_mask& mask, const attention_sums& sums) const noexcept {
    detail::attention_problem problem;
    problem.options = &options;
    problem.shape = &shape_;
    problem.queries = queries;
    problem.negative = options.scale < 0.0f;
    problem.scale = problem.negative ? -options.scale : options.scale;
    problem.masked = mask.exists();
    problem.reports_sums = sums.exist();
    problem.on_tiles = tiles_ && queries * group() >= types::least_rows;
    return problem;
  }

  /// All queries of the part, of the heads [head, head_end), which share a key head: tiles of queries x heads.
  /// take(between): the tile takes the keys, and calls between(row) behind each row of a block; ahead(done, all): the share
  /// of the work that is done.
  template <class Take, class Ahead>
  void run_head(detail::attention_tile<M, I>& tile, const detail::attention_problem& problem,
                const heads_view<const float>& q, const heads_view<float>& y, std::size_t n, std::size_t head,
                std::size_t head_end, const attention_mask& mask, const attention_part& part,
                const attention_sums& sums, const float* value_scales, const Take& take, Ahead ahead) const noexcept {
    const attention_options& options = *problem.options;
    const std::size_t most = tile_rows(part_queries(q.tokens, part));
    detail::attention_row rows[types::rows];
    std::size_t count = 0;
    const std::size_t last = polymac::detail::smaller(part.queries.end, q.tokens);
    const auto flush = [&](std::size_t next) {
      tile.begin(rows, count);
      // Between two rows of the softmax, while products wait for nothing: the next tile's queries, where its results go, and
      // what `ahead` has. Asked for at once they would be waited for, and beside few keys they are in the way.
      const std::size_t heads = head_end - head, done = next - part.queries.begin, all = last - part.queries.begin;
      bool asks = problem.keys >= least_keys;
      const auto between = [&](std::size_t r) {
        if (const std::size_t i = next + r / heads; i < last) {
          fetch<false>(q, n, i, i + 1, head + r % heads);
          fetch<true>(y, n, i, i + 1, head + r % heads);
        }
        ahead(done * count - (count - 1 - r) * polymac::detail::smaller(done, polymac::detail::divide_up(count, heads)),
              all * count);
      };
      take([&](std::size_t r) {
        if (asks) between(r);
        asks = asks && r + 1 < count;
      });
      for (std::size_t r = 0; r < count; ++r) {
        const auto& row = rows[r];
        if (!options.sinks.empty() && part.keys.begin == 0 && part.keys.end > 0)
          tile.add_sink(r, options.sinks[row.head]);
        if (sums.exist()) sums.of[(n * q.tokens + row.place_query) * q.heads + row.head] = tile.sums(r);
      }
      tile.finish(value_scales);
      count = 0;
    };
    const std::size_t begin = polymac::detail::smaller(part.queries.begin, q.tokens);
    const float* query = q.at(n, begin, head);
    float* result = y.at(n, begin, head);
    for (std::size_t i = begin; i < last; ++i, query += q.token_stride, result += y.token_stride) {
      const float* from = query;
      float* to = result;
      for (std::size_t h = head; h < head_end; ++h, from += q.head_stride, to += y.head_stride) {
        auto& row = rows[count++];
        row = {from, to, h, i, nullptr, nullptr};
        if (mask.added != nullptr) row.added = mask.added + mask.row(n, h, i);
        if (mask.kept != nullptr) row.kept = mask.kept + mask.row(n, h, i);
        if (count == most) flush(i + 1);
      }
    }
    if (count > 0) flush(last);
  }

  attention_shape shape_;
  attention_options options_;
  buffer<float> slopes_, sinks_;
  bool tiles_ = false;  ///< may and should products run on matrix registers?
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
