// SPDX-License-Identifier: MIT
// One layer on several threads: its rows, or its columns, divided into ranges.
#pragma once

#include "polymac/adapt/threads/executor.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/core/window.hpp"

#include <cstddef>
#include <limits>
#include <mutex>
#include <type_traits>

POLYMAC_BEGIN
namespace adapt {
namespace detail {
constexpr std::size_t tiles_of(std::size_t rows, std::size_t alignment) noexcept {
  return rows / alignment + (rows % alignment != 0 ? 1 : 0);
}
}  // namespace detail

/// When work is worth dividing. It is counted in multiply-accumulates; every output counts as some more, for its
/// epilogue and its store (a depthwise convolution is nearly all outputs).
struct division {
  /// A range has at least this much work; what is less than two of them is not divided. To hand a task to a thread that
  /// is awake and hear from it takes 1 us, to one that sleeps 6 to 20 us (pool of 2 on an Intel Xeon, 2026-11-21;
  /// bench/threads_bench.cpp measures it). 2^20 are 3 us of vpdpbusd and 15 us of float32 there. 0 divides everything.
  std::size_t min_work = std::size_t{1} << 20;
  /// What an output counts beside its products: 64 are 0.2 us for a thousand int8 outputs there.
  std::size_t output_work = 64;
  /// Products on matrix registers that count as one.
  std::size_t tile_products = 4;

  /// Ranges for `rows` rows that are cut at multiples of `alignment` only, and are `work` altogether: one for each
  /// thread, or fewer; at least 1.
  constexpr std::size_t parts(std::size_t threads, std::size_t rows, std::size_t alignment,
                              std::size_t work) const noexcept {
    const std::size_t tiles = detail::tiles_of(rows, alignment);
    std::size_t n = threads < tiles ? threads : tiles;
    if (min_work > 0 && work / min_work < n) n = work / min_work;
    return n > 0 ? n : 1;
  }
};

/// Rows [begin, end) of part `part` of `parts`: whole tiles of `alignment` rows, as evenly as they go. The tile that is
/// not full belongs to the last part, which reaches to the end of the layer.
constexpr row_range part_of(std::size_t part, std::size_t parts, std::size_t rows, std::size_t alignment) noexcept {
  const std::size_t tiles = detail::tiles_of(rows, alignment);
  // part * tiles / parts, without the product: it might not fit
  const auto begin = [=](std::size_t p) { return (tiles / parts * p + tiles % parts * p / parts) * alignment; };
  return {begin(part), part + 1 < parts ? begin(part + 1) : row_range{}.end};
}

namespace detail {

template <class L, class X, class Y>
concept TakesWorkspace =
    std::is_nothrow_invocable_r_v<polymac::status, const L&, const X&, const Y&, workspace, row_range>;
template <class L, class X, class Y>
concept TakesRows =
    TakesWorkspace<L, X, Y> || std::is_nothrow_invocable_r_v<polymac::status, const L&, const X&, const Y&, row_range>;

template <class L, class X, class Y>
polymac::status run_rows(const L& layer, const X& x, const Y& y, workspace ws, row_range rows) noexcept {
  if constexpr (TakesWorkspace<L, X, Y>)
    return layer(x, y, ws, rows);
  else
    return layer(x, y, rows);
}

template <class T>
constexpr std::size_t rows_of(const matrix_view<T>& y) noexcept {
  return y.rows;
}
template <class T>
constexpr std::size_t rows_of(const image_view<T>& y) noexcept {
  return y.batch * y.height * y.width;
}
template <class T>
constexpr std::size_t columns_of(const matrix_view<T>& y) noexcept {
  return y.columns;
}
template <class T>
constexpr std::size_t columns_of(const image_view<T>& y) noexcept {
  return y.channels;
}

/// Work of a call, as `division` counts it; the largest number where the layer does not say.
template <class L, class X, class Y>
constexpr std::size_t work_of(const L& layer, const X& x, const Y& y, const division& how) noexcept {
  const std::size_t outputs = rows_of(y) * columns_of(y) * how.output_work;
  std::size_t faster = 1;
  if constexpr (requires { layer.runs_on_tiles(rows_of(y)); })
    if (layer.runs_on_tiles(rows_of(y))) faster = how.tile_products;
  if constexpr (requires { layer.macs(extent2d{x.height, x.width}); })
    return x.batch * layer.macs({x.height, x.width}) / faster + outputs;
  else if constexpr (requires { layer.columns() * layer.depth(); })
    return rows_of(y) * layer.columns() * layer.depth() / faster + outputs;
  else
    return std::numeric_limits<std::size_t>::max();
}

template <class L>
constexpr std::size_t layer_workspace(const L& layer) noexcept {
  if constexpr (requires { layer.workspace_bytes(); })
    return layer.workspace_bytes();
  else
    return 0;
}
/// With what it is fastest on images of that size.
template <class L>
constexpr std::size_t layer_workspace(const L& layer, extent2d input) noexcept {
  if constexpr (requires { layer.workspace_bytes(input); })
    return layer.workspace_bytes(input);
  else
    return layer_workspace(layer);
}
template <class L, class X>
constexpr std::size_t layer_workspace_for(const L& layer, const X& x) noexcept {
  if constexpr (requires { extent2d{x.height, x.width}; })
    return layer_workspace(layer, extent2d{x.height, x.width});
  else
    return layer_workspace(layer);
}

/// Bytes from one thread's workspace to the next: a cache line lies between them, so that they do not take it from each
/// other.
constexpr std::size_t workspace_stride(std::size_t bytes) noexcept {
  constexpr std::size_t line = 64;
  return bytes == 0 ? 0 : (bytes + line - 1) / line * line + line;
}

constexpr std::size_t all_workspace(std::size_t threads, std::size_t bytes) noexcept {
  return (threads - 1) * workspace_stride(bytes) + bytes;
}

template <class E>
constexpr std::size_t threads_of(const E& executor) noexcept {
  const std::size_t n = executor.concurrency();
  return n > 0 ? n : 1;
}

/// What came of the parts: how many have run, and the first that failed.
class outcome {
 public:
  void add(std::size_t part, const polymac::status& s) noexcept {
    const std::lock_guard<std::mutex> hold(mutex_);
    ++ran_;
    if (s.ok() || part >= failed_) return;
    failed_ = part;
    status_ = s;
  }
  polymac::status of(std::size_t parts) const noexcept {
    if (ran_ < parts)
      return polymac::status::make(errc::parameter, "parallel: the executor was given ", parts, " tasks and ran only ",
                                   ran_);
    return status_;
  }

 private:
  std::mutex mutex_;
  std::size_t ran_ = 0;
  std::size_t failed_ = std::numeric_limits<std::size_t>::max();
  polymac::status status_;
};

}  // namespace detail
}  // namespace adapt

/// Rows that the layer computes together: ranges are best cut at multiples of it. A layer may say so itself
/// (`row_alignment()`); else it is the height of its atom's tile, and 1 where there is none.
template <class Layer>
constexpr std::size_t row_alignment(const Layer& layer) noexcept {
  if constexpr (requires { layer.row_alignment(); }) {
    const std::size_t rows = layer.row_alignment();
    return rows > 0 ? rows : 1;
  } else if constexpr (requires { Layer::atom::max_rows; }) {
    return Layer::atom::max_rows;
  } else {
    return 1;
  }
}

namespace adapt {
namespace detail {

/// Does the layer have parts of columns (linear, conv2d)?
template <class L>
concept HasParts = requires(const L& layer) {
  layer.column_alignment();
  layer.part(column_range{});
};
/// Strips of columns in a run. What does not fill one belongs to the last: a narrow part may want more workspace.
template <class L, class Y>
constexpr std::size_t strips(const L& layer, const Y& y) noexcept {
  const std::size_t width = layer.column_alignment();  // 0 where the layer could not be built
  return width == 0 || columns_of(y) < width ? 1 : columns_of(y) / width;
}
template <class T>
constexpr matrix_view<T> some_columns(matrix_view<T> y, column_range c) noexcept {
  y.data += c.begin;
  y.columns = c.end - c.begin;
  return y;
}
template <class T>
constexpr image_view<T> some_columns(image_view<T> y, column_range c) noexcept {
  y.data += c.begin;
  y.channels = c.end - c.begin;
  return y;
}

/// Tiles of rows in a run, and the row at which one begins. A layer may say so itself (`row_tiles(x)`,
/// `row_of_tile(x, tile)`), where they are not all of row_alignment() rows.
template <class L, class X, class Y>
constexpr std::size_t row_tiles(const L& layer, const X& x, const Y& y) noexcept {
  if constexpr (requires { layer.row_tiles(x); }) {
    return layer.row_tiles(x);
  } else {
    return tiles_of(rows_of(y), row_alignment(layer));
  }
}
template <class L, class X>
constexpr std::size_t row_of_tile(const L& layer, const X& x, std::size_t tile) noexcept {
  if constexpr (requires { layer.row_of_tile(x, tile); })
    return layer.row_of_tile(x, tile);
  else
    return tile * row_alignment(layer);
}

}  // namespace detail

/// What one thread of several computes: all columns of some rows, or all rows of some columns.
struct share {
  row_range rows{};
  column_range columns{};
};

/// How a call is divided: `parts` ranges of rows, or of columns.
struct plan {
  std::size_t parts = 1;
  bool by_columns = false;
};

/// Rows or columns: the more numerous, so that less is read by every thread (all rows read all weights), unless the
/// others divide into whole tiles more evenly, by an eighth.
template <class Layer, class X, class Y>
constexpr plan plan_of(const Layer& layer, const X& x, const Y& y, std::size_t threads, const division& how) noexcept {
  const std::size_t work = detail::work_of(layer, x, y, how);
  if (threads == 1 || work / 2 < how.min_work) return {};  // before the divisions: a small layer takes 300 ns
  const std::size_t tiles = detail::row_tiles(layer, x, y);
  const plan rows{how.parts(threads, tiles, 1, work), false};
  if constexpr (detail::HasParts<Layer>) {
    const std::size_t strips = detail::strips(layer, y);
    const plan columns{how.parts(threads, strips, 1, work), true};
    // The longest share of each, as a fraction of all: tiles of the fullest part / tiles.
    const std::size_t by_rows = detail::tiles_of(tiles, rows.parts) * strips;
    const std::size_t by_columns = detail::tiles_of(strips, columns.parts) * tiles;
    const bool more_columns = detail::columns_of(y) > detail::rows_of(y);
    if (more_columns ? 8 * by_columns <= 9 * by_rows : 9 * by_columns < 8 * by_rows) return columns;
  }
  return rows;
}

/// What part `part` of a plan computes: whole tiles of the layer, as evenly as they go.
template <class Layer, class X, class Y>
constexpr share part_of(const Layer& layer, const X& x, const Y& y, const plan& p, std::size_t part) noexcept {
  if (p.parts == 1) return {};
  if constexpr (detail::HasParts<Layer>)
    if (p.by_columns) {
      const row_range c = part_of(part, p.parts, detail::strips(layer, y), 1);
      const std::size_t width = layer.column_alignment();
      return {{}, {c.begin * width, part + 1 < p.parts ? c.end * width : detail::columns_of(y)}};
    }
  const row_range tiles = part_of(part, p.parts, detail::row_tiles(layer, x, y), 1);
  return {{detail::row_of_tile(layer, x, tiles.begin),
           part + 1 < p.parts ? detail::row_of_tile(layer, x, tiles.end) : tiles.end},
          {}};
}

}  // namespace adapt

/// Bytes of workspace that `parallel` needs for this layer: its own for each thread, and a cache line between them.
template <adapt::Executor E, class Layer>
constexpr std::size_t workspace_bytes(const E& executor, const Layer& layer) noexcept {
  return adapt::detail::all_workspace(adapt::detail::threads_of(executor), adapt::detail::layer_workspace(layer));
}
/// Bytes with which it is fastest on images of that size: as layer.workspace_bytes(input), for each thread.
template <adapt::Executor E, class Layer>
constexpr std::size_t workspace_bytes(const E& executor, const Layer& layer, extent2d input) noexcept {
  return adapt::detail::all_workspace(adapt::detail::threads_of(executor),
                                      adapt::detail::layer_workspace(layer, input));
}

/// Runs a layer with its rows or columns divided among the threads of an executor: `layer(x, y)` or `layer(x, y, ws)`,
/// and the same bits for any number of threads. The layer is any that takes a range of rows (linear, conv2d,
/// depthwise_conv2d); columns are divided only of one that has parts (linear, conv2d).
///   x, y  as the layer takes them
///   ws    workspace_bytes(executor, layer), where the layer needs any; of images, fastest with
///         workspace_bytes(executor, layer, size of x)
///   how   when work is worth dividing; it is cut where the layer's tiles begin, into at most one range for each thread
/// Returns the status of the first range that failed. Allocates nothing (but what the executor does).
template <adapt::Executor E, class Layer, class X, class Y>
polymac::status parallel(E&& executor, const Layer& layer, const X& x, const Y& y, workspace ws = {},
                         const adapt::division& how = {}) noexcept {
  static_assert(adapt::detail::TakesRows<Layer, X, Y>,
                "polymac: parallel() runs layers that take a range of rows: layer(x, y, rows) or "
                "layer(x, y, workspace, rows), noexcept, which return a polymac::status");
  namespace part = adapt::detail;
  const std::size_t threads = part::threads_of(executor), least = part::layer_workspace(layer);
  if (const std::size_t all = part::all_workspace(threads, least); all > 0 && (ws.data == nullptr || ws.size < all))
    return polymac::status::make(errc::short_buffer, "parallel: expected a workspace of ", all, " bytes for ", threads,
                                 " threads, got ", ws.data == nullptr ? 0 : ws.size);
  const adapt::plan plan = adapt::plan_of(layer, x, y, threads, how);
  if (plan.parts == 1) return part::run_rows(layer, x, y, ws, {});
  // A part would tell of its own columns what does not fit: asked before, for no rows.
  if (plan.by_columns)
    if (const auto s = part::run_rows(layer, x, y, ws, {0, 0}); !s.ok()) return s;
  const std::size_t best = part::layer_workspace_for(layer, x);
  const std::size_t own = ws.size < part::all_workspace(threads, best) ? least : best;
  part::outcome outcome;
  const auto run_part = [&](std::size_t p) noexcept {
    const workspace mine = own > 0 ? workspace(ws.data + p * part::workspace_stride(own), own) : workspace{};
    const adapt::share mine_of_y = adapt::part_of(layer, x, y, plan, p);
    if constexpr (part::HasParts<Layer>)
      if (plan.by_columns)
        return outcome.add(
            p, part::run_rows(layer.part(mine_of_y.columns), x, part::some_columns(y, mine_of_y.columns), mine, {}));
    outcome.add(p, part::run_rows(layer, x, y, mine, mine_of_y.rows));
  };
  executor.run(plan.parts, run_part);
  return outcome.of(plan.parts);
}

POLYMAC_END
