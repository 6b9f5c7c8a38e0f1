// SPDX-License-Identifier: MIT
// What the layers over heads check of their views, and how they cut a workspace into pieces.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/core/view.hpp"
#include "polymac/layer/view_bounds.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

POLYMAC_BEGIN
namespace layer {
namespace detail {

/// Does a view of heads lie within the address space, and (`apart`: what is written) does no element belong to two
/// vectors? Axes of one element have no stride that counts. O(1).
template <class T>
constexpr bool head_strides_fit(const heads_view<T>& v, bool apart) noexcept {
  constexpr std::size_t most = static_cast<std::size_t>(std::numeric_limits<std::ptrdiff_t>::max()) / sizeof(T);
  struct axis {
    std::size_t count, stride;
  };
  axis axes[3] = {{v.batch, v.batch_stride}, {v.tokens, v.token_stride}, {v.heads, v.head_stride}};
  for (int end = 2; end > 0; --end)  // the shortest stride first
    for (int i = 0; i < end; ++i)
      if (axes[i].stride > axes[i + 1].stride) std::swap(axes[i], axes[i + 1]);
  std::size_t span = v.size;
  if (span > most) return false;
  for (const axis& a : axes) {
    if (a.count <= 1) continue;
    if (apart && a.stride < span) return false;
    if (a.stride > (most - span) / a.count) return false;
    span += (a.count - 1) * a.stride;
  }
  return true;
}

/// Expects these extents, memory, and strides that fit. `written`: two vectors must not share an element; what is only
/// read may share all (a stride of 0 is one vector for all).
template <class T>
constexpr status expect_head_vectors(const char* who, const char* name, const heads_view<T>& v, std::size_t batch,
                                     std::size_t tokens, std::size_t heads, std::size_t size, bool written) noexcept {
  if (v.batch != batch || v.tokens != tokens || v.heads != heads || v.size != size)
    return status::make(errc::shape, who, ": expected ", name, " of ", batch, " x ", tokens, " tokens x ", heads,
                        " heads x ", size, ", got ", v.batch, " x ", v.tokens, " x ", v.heads, " x ", v.size);
  if (batch == 0 || tokens == 0 || heads == 0 || size == 0) return {};
  if (!has_data(v.data)) return status::make(errc::parameter, who, ": the view of the ", name, " has no data");
  if (!head_strides_fit(v, written))
    return status::make(errc::shape, who, ": the strides of the ", name, " (", v.batch_stride, ", ", v.token_stride,
                        ", ", v.head_stride, ") ", written ? "let vectors overlap, or " : "",
                        "lead out of the address space");
  return {};
}

/// Cuts a workspace into pieces on cache lines. Without memory it counts: bytes() is what a workspace must have.
class workspace_pieces {
 public:
  constexpr workspace_pieces() noexcept = default;
  explicit workspace_pieces(workspace ws) noexcept
      : at_(ws.data + (line - reinterpret_cast<std::uintptr_t>(ws.data) % line) % line) {}

  /// Trivial types: the bytes become objects by being written, which happens before anybody reads them.
  template <class T>
  T* take(std::size_t count) noexcept {
    T* const piece = at_ == nullptr ? nullptr : reinterpret_cast<T*>(at_ + used_);
    used_ += (count * sizeof(T) + line - 1) / line * line;
    return piece;
  }
  constexpr std::size_t bytes() const noexcept { return used_ + line; }

  /// Is the workspace large enough?
  static status check(const char* who, workspace ws, std::size_t bytes) noexcept {
    if (ws.data != nullptr && ws.size >= bytes) return {};
    return status::make(errc::short_buffer, who, ": expected a workspace of ", bytes, " bytes, got ",
                        ws.data == nullptr ? std::size_t{0} : ws.size);
  }

 private:
  static constexpr std::size_t line = 64;
  std::byte* at_ = nullptr;
  std::size_t used_ = 0;
};

}  // namespace detail
}  // namespace layer
POLYMAC_END
