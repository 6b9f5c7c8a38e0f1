// SPDX-License-Identifier: MIT
// Embeddings: rows of a table by the numbers of tokens; and a classifier that multiplies with the same table.
#pragma once

#include "polymac/core/bfloat16.hpp"
#include "polymac/core/buffer.hpp"
#include "polymac/core/float16.hpp"
#include "polymac/core/view.hpp"
#include "polymac/layer/dynamic_range.hpp"
#include "polymac/layer/insides.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// y row i = row_of(ids[i]), for a table of tokens x size. Ids are all checked before anything is written.
template <class WriteRow>
status look_up(const char* who, std::size_t tokens, std::size_t size, std::span<const std::int32_t> ids,
               const matrix_view<float>& y, const WriteRow& write_row) noexcept {
  if (y.rows != ids.size() || y.columns != size)
    return status::make(errc::shape, who, ": expected y of ", ids.size(), " x ", size, ", got ", y.rows, " x ",
                        y.columns);
  if (ids.empty()) return {};
  if (!has_data(y.data) || !strides_fit(y))
    return status::make(
        has_data(y.data) ? errc::shape : errc::parameter, who, ": the view y has ",
        has_data(y.data) ? "a stride smaller than its columns, or leads out of the address space" : "no data");
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= tokens)
      return status::make(errc::parameter, who, ": expected token ids in [0, ", tokens, "), got ", ids[i], " at ", i);
  for (std::size_t i = 0; i < ids.size(); ++i) write_row(static_cast<std::size_t>(ids[i]), y.row(i));
  return {};
}

/// Checks a table and the scales of its rows.
template <class T>
status check_table(const char* who, const matrix_view<const T>& table, std::span<const float> scales) noexcept {
  if (table.rows == 0 || table.columns == 0 || table.rows > std::size_t{0x7FFFFFFF})
    return status::make(errc::shape, who, ": expected a table of 1 to 2^31 - 1 tokens x at least 1, got ", table.rows,
                        " x ", table.columns);
  if (!has_data(table.data) || !strides_fit(table))
    return status::make(
        has_data(table.data) ? errc::shape : errc::parameter, who, ": the table has ",
        has_data(table.data) ? "a stride smaller than its columns, or leads out of the address space" : "no data");
  if (scales.size() != (std::same_as<T, std::int8_t> ? table.rows : std::size_t{0}))
    return status::make(errc::shape, who, ": expected ", std::same_as<T, std::int8_t> ? "a scale" : "no scales",
                        " for each of ", table.rows, " rows of this type, got ", scales.size());
  for (std::size_t i = 0; i < scales.size(); ++i)
    if (!(scales[i] > 0.0f) || !(scales[i] - scales[i] == 0.0f))
      return status::make(errc::parameter, who, ": expected finite scales above 0, row ", i);
  return {};
}

template <class T>
concept TableElement =
    std::same_as<T, float> || std::same_as<T, bfloat16> || std::same_as<T, float16> || std::same_as<T, std::int8_t>;

/// The table, of which a row may be asked for.
template <TableElement T>
class table_of_rows {
 public:
  status copy(const matrix_view<const T>& table) noexcept {
    columns_ = table.columns;
    auto s = elements_.resize_for_overwrite(table.rows * table.columns);
    for (std::size_t r = 0; s.ok() && r < table.rows; ++r)
      for (std::size_t i = 0; i < columns_; ++i) elements_[r * columns_ + i] = table(r, i);
    return s;
  }
  void write_row(std::size_t row, float scale, float* to) const noexcept {
    const T* const from = elements_.data() + row * columns_;
    for (std::size_t i = 0; i < columns_; ++i)
      if constexpr (std::same_as<T, std::int8_t>)
        to[i] = static_cast<float>(from[i]) * scale;
      else
        to[i] = static_cast<float>(from[i]);
  }
  std::size_t bytes() const noexcept { return elements_.size() * sizeof(T); }

 private:
  buffer<T> elements_;
  std::size_t columns_ = 0;
};

/// One scale for each row, of tables of int8; else there are none.
template <TableElement T>
struct row_scales {
  buffer<float> of_row;
  status copy(std::span<const float> scales) noexcept {
    auto s = of_row.resize_for_overwrite(scales.size());
    for (std::size_t i = 0; s.ok() && i < scales.size(); ++i) of_row[i] = scales[i];
    return s;
  }
  float operator[](std::size_t row) const noexcept { return std::same_as<T, std::int8_t> ? of_row[row] : 1.0f; }
};

}  // namespace detail

/// y[i] = table[ids[i]], as floats.
///
///   T   float, bfloat16, float16: exact; std::int8_t: code * scale[row], rounded to float
///
/// The table is copied. Running is noexcept and allocates nothing.
template <detail::TableElement T>
class embedding {
 public:
  /// table: tokens x size; scales: for int8 one for each row, finite and above 0, else none. Throws polymac::error (or
  /// sets `status()` where exceptions are off) on what does not fit.
  explicit embedding(matrix_view<const T> table, std::span<const float> scales = {}) {
    status_ = detail::check_table("embedding", table, scales);
    if (status_.ok()) status_ = table_.copy(table);
    if (status_.ok()) status_ = scales_.copy(scales);
    if (status_.ok()) tokens_ = table.rows, size_ = table.columns;
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  std::size_t tokens() const noexcept { return tokens_; }
  std::size_t size() const noexcept { return size_; }
  /// Bytes of the table and its scales.
  std::size_t bytes() const noexcept { return table_.bytes() + scales_.of_row.size() * sizeof(float); }

  /// y: as many rows as ids, of size() columns. Fails on an id outside of [0, tokens()) and on views that do not fit, and
  /// then leaves y untouched. O(ids * size).
  polymac::status operator()(std::span<const std::int32_t> ids, matrix_view<float> y) const noexcept {
    if (!status_.ok()) return status_;
    return detail::look_up("embedding", tokens_, size_, ids, y,
                           [&](std::size_t id, float* to) { table_.write_row(id, scales_[id], to); });
  }

 private:
  detail::table_of_rows<T> table_;
  detail::row_scales<T> scales_;
  std::size_t tokens_ = 0, size_ = 0;
  polymac::status status_;
};

/// An embedding and the classifier that shares its table: logits = x table^T. llama2.c's, GPT-2's and Gemma's.
///
///   M   the arithmetic of the classifier; the table is of M::weight: float, bfloat16, float16, or int8 with a scale for
///       each row, where activations are quantised row by row (layer::dynamic_range)
///
/// The table is packed for the product, and tokens are looked up there, so that it is in memory once. Not so where the
/// atom keeps weights in another form than they came in (isa::encodes_weights: halves as floats, words of L-Mul): their
/// values would have to be undone, so the table is kept beside the panels. keeps_rows says which.
template <Mac M, Isa I = isa::native>
requires detail::TableElement<typename M::weight>
class tied_embedding {
  using weight = typename M::weight;
  static constexpr bool integer = std::same_as<weight, std::int8_t>;
  static_assert(!integer || std::same_as<typename M::accumulator, std::int32_t>,
                "polymac: tied_embedding of int8 codes needs an arithmetic with integer sums: mac::int8");
  using product = linear<M, epilogue::identity, I>;

 public:
  using classifier_type = std::conditional_t<integer, dynamic_range<product>, product>;
  /// What the classifier reads: float where weights are integers, else M::activation.
  using activation = typename classifier_type::activation;
  /// Is the table kept as rows, too?
  static constexpr bool keeps_rows = isa::encodes_weights<typename product::atom>;

  /// table: tokens x size; scales: for int8 one for each row, finite and above 0, else none. Throws polymac::error (or
  /// sets `status()` where exceptions are off) on what does not fit.
  explicit tied_embedding(matrix_view<const weight> table, std::span<const float> scales = {}) {
    status_ = construct(table, scales);
    polymac::detail::raise_unless_ok(status_);
  }

  const polymac::status& status() const noexcept { return status_; }
  std::size_t tokens() const noexcept { return tokens_; }
  std::size_t size() const noexcept { return size_; }
  /// Bytes of panels, rows (where they are kept) and scales.
  std::size_t bytes() const noexcept {
    return (classifier_ ? inner().weight_bytes() : 0) + rows_.bytes() + scales_.of_row.size() * sizeof(float);
  }

  /// y[i] = table[ids[i]] as floats; as layer::embedding.
  polymac::status operator()(std::span<const std::int32_t> ids, matrix_view<float> y) const noexcept {
    if (!status_.ok()) return status_;
    return detail::look_up("tied_embedding", tokens_, size_, ids, y, [&](std::size_t id, float* to) {
      if constexpr (keeps_rows) {
        rows_.write_row(id, scales_[id], to);
      } else {
        const auto& packed = detail::insides::weights(inner());
        for (std::size_t k = 0; k < size_; ++k) {
          const auto value = static_cast<float>(packed.read(0, id, k));
          to[k] = integer ? value * scales_[id] : value;
        }
      }
    });
  }

  /// The classifier as a layer: parts of its columns, ranges of rows, workspace_bytes. Only where status() is ok.
  const classifier_type& classifier() const noexcept { return *classifier_; }
  /// y = x table^T for the rows of x. Integers need classifier().workspace_bytes(x, y) bytes, others no workspace.
  polymac::status classify(matrix_view<const activation> x, matrix_view<float> y, workspace ws = {}) const noexcept {
    if (!status_.ok()) return status_;
    if constexpr (integer) {
      return (*classifier_)(x, y, ws);
    } else {
      static_cast<void>(ws);
      return (*classifier_)(x, y);
    }
  }

 private:
  const product& inner() const noexcept {
    if constexpr (integer)
      return classifier_->inner();
    else
      return *classifier_;
  }
  polymac::status construct(const matrix_view<const weight>& table, std::span<const float> scales) {
    auto s = detail::check_table("tied_embedding", table, scales);
    if (s.ok()) s = scales_.copy(scales);
    if constexpr (keeps_rows)
      if (s.ok()) s = rows_.copy(table);
    if (!s.ok()) return s;
    using bias = typename mac_traits<M>::sum;
    if constexpr (integer)
      classifier_.emplace(product(table, std::span<const bias>{}), scales);
    else
      classifier_.emplace(table, std::span<const bias>{});
    tokens_ = table.rows;
    size_ = table.columns;
    return classifier_->status();
  }

  std::optional<classifier_type> classifier_;
  detail::table_of_rows<weight> rows_;  ///< empty, unless keeps_rows
  detail::row_scales<weight> scales_;
  std::size_t tokens_ = 0, size_ = 0;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
