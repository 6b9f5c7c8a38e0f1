// SPDX-License-Identifier: MIT
// Eigen matrices are views, and Eigen agrees with the linear layer.
#include "polymac/adapt/eigen.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/bf16.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/fp16.hpp"
#include "polymac/mac/int8.hpp"

#include "catch.hpp"

#include <random>
#include <type_traits>
#include <utility>
#include <vector>

namespace pm = polymac;

template <class T>
using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST_CASE("an Eigen matrix is a view of its rows", "[eigen]") {
  matrix<float> m(3, 5);
  const auto v = pm::adapt::view(m);
  CHECK(v.data == m.data());
  CHECK(v.rows == 3);
  CHECK(v.columns == 5);
  CHECK(v.stride == 5);
  auto block = m.block(1, 1, 2, 3);
  const auto inner = pm::adapt::view(block);
  CHECK(inner.data == &m(1, 1));
  CHECK(inner.stride == 5);
  const Eigen::VectorXf column = Eigen::VectorXf::Zero(4);
  const auto single = pm::adapt::view(column);
  CHECK(single.rows == 4);
  CHECK(single.columns == 1);
  CHECK(single.stride == 1);
}

TEST_CASE("the linear layer agrees with Eigen's product", "[eigen]") {
  std::mt19937 random(7);
  std::uniform_int_distribution<int> code(-128, 127);
  matrix<std::int8_t> x(17, 45), w(23, 45);
  for (auto* m : {&x, &w})
    for (Eigen::Index i = 0; i < m->size(); ++i) m->data()[i] = static_cast<std::int8_t>(code(random));
  const matrix<std::int32_t> expected = x.cast<std::int32_t>() * w.cast<std::int32_t>().transpose();

  matrix<std::int32_t> y(17, 23);
  const auto layer = pm::linear<pm::mac::int8>(pm::adapt::view(std::as_const(w)), std::vector<std::int32_t>{});
  REQUIRE(layer(pm::adapt::view(std::as_const(x)), pm::adapt::view(y)).ok());
  CHECK(y == expected);

  const matrix<float> xf = x.cast<float>() / 64.0f, wf = w.cast<float>() / 32.0f;
  matrix<float> yf(17, 23);
  const auto real = pm::linear<pm::mac::float32>(pm::adapt::view(wf), std::vector<float>{});
  REQUIRE(real(pm::adapt::view(xf), pm::adapt::view(yf)).ok());
  // Quotients of small integers: every sum is exact.
  CHECK(yf == matrix<float>(expected.cast<float>() / 2048.0f));
}

TEMPLATE_TEST_CASE("matrices of Eigen's short floats are views of polymac's", "[eigen]", Eigen::half, Eigen::bfloat16) {
  constexpr bool is_half = std::is_same_v<TestType, Eigen::half>;
  using M = std::conditional_t<is_half, pm::mac::fp16, pm::mac::bf16>;
  using element = typename M::activation;
  std::mt19937 random(8);
  std::uniform_int_distribution<int> number(-100, 100);
  matrix<TestType> x(9, 30), w(21, 30);
  for (auto* m : {&x, &w})
    for (Eigen::Index i = 0; i < m->size(); ++i)
      m->data()[i] = static_cast<TestType>(static_cast<float>(number(random)) / 4.0f);

  const auto view = pm::adapt::view(std::as_const(x));
  STATIC_REQUIRE(std::is_same_v<decltype(view), const pm::matrix_view<const element>>);
  CHECK(static_cast<const void*>(view.data) == x.data());
  CHECK(view.stride == 30);
  CHECK(static_cast<float>(view(8, 29)) == static_cast<float>(x(8, 29)));
  CHECK(static_cast<float>(view(0, 1)) == static_cast<float>(x(0, 1)));

  matrix<float> y(9, 21);
  const auto layer = pm::linear<M>(pm::adapt::view(std::as_const(w)), std::vector<float>{});
  REQUIRE(layer(view, pm::adapt::view(y)).ok());
  CHECK(y == x.template cast<float>() * w.template cast<float>().transpose());  // sums of sixteenths: exact

  // What is written through the view is in the matrix; a block keeps the stride of its matrix.
  const auto target = pm::adapt::view(x);
  STATIC_REQUIRE(std::is_same_v<decltype(target), const pm::matrix_view<element>>);
  target(2, 3) = element(-0.75f);
  CHECK(static_cast<float>(x(2, 3)) == -0.75f);
  auto block = x.block(1, 2, 3, 4);
  CHECK(pm::adapt::view(block).stride == 30);
  CHECK(static_cast<float>(pm::adapt::view(block)(1, 1)) == -0.75f);
}
