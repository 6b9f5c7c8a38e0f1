// SPDX-License-Identifier: MIT
// What layers of one operand share; and any epilogue stage as a layer of its own.
#pragma once

#include "polymac/epilogue/epilogue.hpp"
#include "polymac/kernel/elementwise.hpp"
#include "polymac/layer/view_check.hpp"

#include <cstddef>
#include <utility>

POLYMAC_BEGIN
namespace layer {

/// y = Op(x), element by element. `Op` has `Out operator()(In)` and a static `name`. y may be x itself where the types
/// are the same.
template <class In, class Out, class Op>
class unary {
 public:
  using activation = In;
  using output = Out;

  constexpr const polymac::status& status() const noexcept { return status_; }

  /// O(elements). Fails on views that do not fit, and then leaves y untouched.
  constexpr polymac::status operator()(image_view<const In> x, image_view<Out> y) const noexcept {
    if (!status_.ok()) return status_;
    const auto s = detail::expect_same(Op::name, x, y);
    if (s.ok()) kernel::elementwise(kernel::extents_of(y), op_, kernel::operand_of(y), kernel::operand_of(x));
    return s;
  }
  constexpr polymac::status operator()(matrix_view<const In> x, matrix_view<Out> y) const noexcept {
    return (*this)(as_image(x), as_image(y));
  }

 protected:
  constexpr unary(const Op& op, const polymac::status& s) : op_(op), status_(s) {
    polymac::detail::raise_unless_ok(status_);
  }

 private:
  Op op_;
  polymac::status status_;
};

namespace detail {

template <class T, epilogue::Stage S>
struct stage_op {
  static constexpr const char* name = "map";
  S stage;
  constexpr auto operator()(T value) const noexcept { return stage(value, std::size_t{0}, std::size_t{0}); }
};

}  // namespace detail

/// y = stage(x): `map<float>(relu)`. The stage must not depend on the column (one scale, not one per channel): its
/// `check(1)` is asked.
template <class T, epilogue::Stage S>
class map : public unary<T, epilogue::output_of<S, T>, detail::stage_op<T, S>> {
 public:
  constexpr explicit map(S stage)
      : unary<T, epilogue::output_of<S, T>, detail::stage_op<T, S>>({stage}, stage.check(1)) {}
};

/// Builds a map from a stage.
template <class T, epilogue::Stage S>
constexpr auto make_map(S stage) {
  return map<T, S>(std::move(stage));
}

}  // namespace layer
POLYMAC_END
