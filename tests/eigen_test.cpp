// SPDX-License-Identifier: MIT
// Eigen matrices are views, and Eigen agrees with the linear layer.
#include "polymac/adapt/eigen.hpp"
#include "polymac/layer/linear.hpp"
#include "polymac/mac/float32.hpp"
#include "polymac/mac/int8.hpp"

#include "catch.hpp"

#include <random>
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
