// SPDX-License-Identifier: MIT
// What layers of two operands share: broadcasting, checks, the call.
#pragma once

#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/view_check.hpp"

#include <cstddef>
#include <type_traits>

POLYMAC_BEGIN
namespace layer {

/// y = Op(a, b), element by element. Each axis of a and b has the extent of y, or 1: then it is broadcast. y may be a
/// or b itself where that one is not broadcast. `Op` has `T operator()(T, T)` and a static `name`; it may
/// have `prepare()`, called once, and what kernel::elementwise takes.
template <class T, class Op>
class binary {
 public:
  using activation = T;
  using output = T;

  constexpr const polymac::status& status() const noexcept { return status_; }

  /// O(elements of y). Fails on extents that do not fit, and then leaves y untouched.
  constexpr polymac::status operator()(image_view<const T> a, image_view<const T> b, image_view<T> y) const noexcept {
    if (!status_.ok()) return status_;
    const auto ea = kernel::extents_of(a);
    const auto eb = kernel::extents_of(b);
    const auto ey = kernel::extents_of(y);
    for (std::size_t axis = 0; axis < ey.size(); ++axis) {
      const std::size_t expected = ea[axis] == 1 ? eb[axis] : ea[axis];
      if ((ea[axis] != eb[axis] && ea[axis] != 1 && eb[axis] != 1) || ey[axis] != expected)
        return polymac::status::make(errc::shape, Op::name, ": axis ", axis,
                                     " (of batch, height, width, channels): expected equal extents, or 1 to broadcast, "
                                     "got ", ea[axis], " and ", eb[axis], " for an output of ", ey[axis]);
    }
    polymac::status s = detail::check_view(Op::name, "first input", a);
    if (s.ok()) s = detail::check_view(Op::name, "second input", b);
    if (s.ok()) s = detail::check_view(Op::name, "output", y);
    if (!s.ok()) return s;
    kernel::elementwise(ey, op_, kernel::operand_of(y), kernel::operand_of(a), kernel::operand_of(b));
    return {};
  }
  /// The same for matrices; an input of one row is broadcast over the rows.
  constexpr polymac::status operator()(matrix_view<const T> a, matrix_view<const T> b,
                                       matrix_view<T> y) const noexcept {
    return (*this)(as_image(a), as_image(b), as_image(y));
  }

 protected:
  constexpr binary(const Op& op, const polymac::status& s) : op_(op), status_(s) {
    polymac::detail::raise_unless_ok(status_);
    if constexpr (requires { op_.prepare(); })
      if (!std::is_constant_evaluated() && status_.ok()) op_.prepare();
  }

 private:
  Op op_;
  polymac::status status_;
};

}  // namespace layer
POLYMAC_END
