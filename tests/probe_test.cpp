// SPDX-License-Identifier: MIT
// Probes: a watched arithmetic computes what it computed, in every layer, on the generic atom; which products are seen;
// what the probes make of them; and the statistics of traces against formulas in two passes.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/arithmetics.hpp>
#include <polymac/probe/correlation.hpp>
#include <polymac/probe/count.hpp>
#include <polymac/probe/energy.hpp>
#include <polymac/probe/leakage.hpp>
#include <polymac/probe/probed.hpp>
#include <polymac/probe/t_test.hpp>
#include <polymac/sparsity.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <tuple>
#include <type_traits>
#include <vector>

#include "support/test_code.hpp"

namespace mac = polymac::mac;
namespace probe = polymac::probe;
namespace isa = polymac::isa;
namespace policy = polymac::policy;
using polymac::extent2d;
using polymac::image_view;
using polymac::mac_traits;
using polymac::matrix_view;
using polymac_test::random_source;

namespace {

template <class M>
using counted = probe::probed<M, probe::count>;

// ---- types: nothing changes without a probe, and no atom but the generic one knows a watched arithmetic ---------------
static_assert(!mac_traits<mac::int8>::one_by_one && isa::atom<mac::int8, isa::scalar>::columns == 16 &&
              isa::atom<mac::int8, isa::scalar>::max_rows == 4);
static_assert(std::is_same_v<polymac::layer::linear<mac::int8>::atom, isa::best_atom<mac::int8, isa::native>>);

template <class M>
constexpr bool is_generic() {
  return []<class... Is>(std::type_identity<std::tuple<Is...>>) {
    return (std::is_same_v<isa::best_atom<counted<M>, Is>, isa::atom<counted<M>, isa::scalar>> && ...);
  }(std::type_identity<isa::compiled>{});
}
template <class... Ms>
constexpr bool are_watched() {
  return (... && (polymac::Mac<counted<Ms>> && is_generic<Ms>() && mac_traits<counted<Ms>>::one_by_one &&
                  counted<Ms>::linear == Ms::linear && counted<Ms>::exact == Ms::exact &&
                  mac_traits<counted<Ms>>::max_depth == mac_traits<Ms>::max_depth &&
                  mac_traits<counted<Ms>>::group == mac_traits<Ms>::group &&
                  mac_traits<counted<Ms>>::chain == mac_traits<Ms>::chain &&
                  mac_traits<counted<Ms>>::weight_linear == mac_traits<Ms>::weight_linear &&
                  std::is_same_v<typename mac_traits<counted<Ms>>::sum, typename mac_traits<Ms>::sum>));
}
static_assert(
    are_watched<mac::int8, mac::uint8, mac::int16x8, mac::fp16, mac::bf16, mac::float32, mac::dfp<std::int8_t>,
                mac::dfp<std::int16_t>, mac::fp8<polymac::e4m3fn>, mac::mx<polymac::e2m1>, mac::l_mul<>,
                mac::bit_weights<4>, mac::bit_weights<8>, mac::sign, mac::binary, mac::spike, mac::fp16_sum16>());
static_assert(std::is_same_v<isa::policy_atom<counted<mac::int8>, isa::native, policy::always<policy::n_of_m<2, 4>>>,
                             isa::generic_sparse_atom<counted<mac::int8>, policy::n_of_m<2, 4>>>);

// What an arithmetic may have is there where it has it: layers ask.
template <class M>
constexpr bool has_total = requires(const typename M::accumulator& c) {
  M::total(c);
};
template <class M>
constexpr bool checks_weights = requires(const typename M::weight& w) {
  M::check_weight(w);
};
static_assert(!has_total<counted<mac::int8>> && !checks_weights<counted<mac::int8>>);
static_assert(has_total<counted<mac::dfp<std::int8_t>>> && checks_weights<counted<mac::dfp<std::int8_t>>>);

// In a constant expression the sums are there and nothing is called.
consteval std::int32_t sum_at_compile_time() {
  using layer =
      polymac::layer::linear<counted<mac::int8>, polymac::epilogue::identity, isa::scalar, polymac::extents<1, 3>>;
  const std::array<std::int8_t, 3> w{1, -2, 3}, x{10, 20, 30};
  const std::array<std::int32_t, 1> bias{5};
  const layer fc(matrix_view<const std::int8_t>(w.data(), 1, 3), std::span<const std::int32_t>(bias));
  std::array<std::int32_t, 1> y{};
  return fc({x.data(), 1, 3}, {y.data(), 1, 1}).ok() ? y[0] : -1;
}
static_assert(sum_at_compile_time() == 65);

// ---- layers ------------------------------------------------------------------------------------------------------------

template <class T>
std::vector<T> numbers(std::size_t count, std::uint64_t salt, int low = -3, int high = 3) {
  random_source random(salt);
  std::vector<T> v;
  for (std::size_t i = 0; i < count; ++i) v.push_back(polymac_test::whole<T>(random.integer(low, high)));
  return v;
}

template <class M>
struct linear_problem {
  static constexpr std::size_t rows = 3, columns = 11, depth = 37;
  using activation = typename M::activation;
  using weight = typename M::weight;
  using sum = typename mac_traits<M>::sum;
  std::vector<activation> x = numbers<activation>(rows * depth, 1, std::is_unsigned_v<activation> ? 0 : -3);
  std::vector<weight> w = numbers<weight>(columns * depth, 2);
  std::vector<typename mac_traits<M>::wide> bias = numbers<typename mac_traits<M>::wide>(columns, 3);

  matrix_view<const weight> weights() const { return {w.data(), columns, depth}; }
  /// Outputs of M itself.
  std::vector<sum> run() const {
    const auto fc = polymac::linear<M, isa::scalar>(weights(), bias);
    std::vector<sum> y(rows * columns);
    REQUIRE(fc({x.data(), rows, depth}, {y.data(), rows, columns}).ok());
    return y;
  }
};

template <class M>
void check_linear(std::uint64_t filled_depth = linear_problem<M>::depth) {
  INFO(M::name);
  const linear_problem<M> problem;
  probe::count seen;
  const auto plain = problem.run();
  const auto fc = polymac::linear<counted<M>>(problem.weights(), problem.bias);
  const auto outputs = [&] {
    std::vector<typename mac_traits<M>::sum> y(plain.size());
    REQUIRE(fc({problem.x.data(), problem.rows, problem.depth}, {y.data(), problem.rows, problem.columns}).ok());
    return y;
  };
  CHECK(outputs() == plain);  // no scope: nothing is recorded
  CHECK(seen.executed == 0);
  {
    const probe::scope<probe::count> here(seen);
    CHECK(outputs() == plain);
  }
  CHECK(seen.executed == problem.rows * problem.columns * filled_depth);
}

TEST_CASE("a watched arithmetic has the sums of the other, and each product of a layer is seen once") {
  check_linear<mac::int8>();
  check_linear<mac::uint8>();
  check_linear<mac::int16x8>();  // sums in chunks
  check_linear<mac::float32>();
  check_linear<mac::dfp<std::int8_t>>();
  check_linear<mac::dfp<std::int16_t>>();  // in chains
  check_linear<mac::bf16>(38);             // in pairs: one product fills up the last one
}

/// Takes notes of everything.
struct notes {
  struct product {
    std::int32_t before, after;
    int activation, weight;
    bool operator==(const product&) const = default;
  };
  std::vector<product> of;
  void operator()(std::int32_t before, std::int32_t after, std::int8_t a, std::int8_t w) noexcept {
    of.push_back({before, after, a, w});
  }
};

TEST_CASE("products come row by row, column by column, in the order of k, with the sums around them") {
  const linear_problem<mac::int8> problem;
  using watched = probe::probed<mac::int8, notes>;
  constexpr std::int8_t zero_point = 2;
  const auto fc = polymac::linear<watched>(problem.weights(), problem.bias, {}, {.activation_zero_point = zero_point});
  std::vector<std::int32_t> y(problem.rows * problem.columns);
  notes seen;
  {
    const probe::scope<notes> here(seen);
    REQUIRE(fc({problem.x.data(), problem.rows, problem.depth}, {y.data(), problem.rows, problem.columns}).ok());
  }
  std::vector<notes::product> expected;
  for (std::size_t r = 0; r < problem.rows; ++r)
    for (std::size_t c = 0; c < problem.columns; ++c) {
      const std::int8_t* const w = problem.w.data() + c * problem.depth;
      auto sum = static_cast<std::int32_t>(problem.bias[c]);
      for (std::size_t k = 0; k < problem.depth; ++k) sum -= zero_point * w[k];
      for (std::size_t k = 0; k < problem.depth; ++k) {
        const std::int8_t a = problem.x[r * problem.depth + k];
        expected.push_back({sum, sum + a * w[k], a, w[k]});
        sum += a * w[k];
      }
      CHECK(y[r * problem.columns + c] == sum);
    }
  CHECK(seen.of == expected);
}

TEST_CASE("a scope ends, and the one around it goes on") {
  using watched = counted<mac::int8>;
  probe::count outer, inner;
  CHECK(probe::scope<probe::count>::active() == nullptr);
  CHECK(watched::multiply_add(1, 2, 3) == 7);
  {
    const probe::scope<probe::count> one(outer);
    CHECK(watched::multiply_add(1, 2, 3) == 7);
    {
      const probe::scope<probe::count> two(inner);
      CHECK(probe::scope<probe::count>::active() == &inner);
      CHECK(watched::multiply_add(1, 0, 3) == 1);
      CHECK(watched::multiply_add(1, 0, 0) == 1);
    }
    CHECK(watched::multiply_add(1, 2, 0) == 1);
  }
  CHECK(watched::multiply_add(1, 2, 3) == 7);
  CHECK(probe::scope<probe::count>::active() == nullptr);
  CHECK((outer.executed == 2 && inner.executed == 2));
  CHECK((outer.zero_operands == 1 && outer.zero_weights == 1 && outer.zero_activations == 0));
  CHECK((inner.zero_operands == 2 && inner.zero_weights == 1 && inner.zero_activations == 2));
}

TEST_CASE("count: zeros are the zero points of integers, and zeros of either sign of floats") {
  probe::count of_bytes{.zero_point = -3};
  of_bytes(0, 0, std::int8_t{-3}, std::int8_t{1});
  of_bytes(0, 0, std::int8_t{0}, std::int8_t{0});
  CHECK((of_bytes.zero_activations == 1 && of_bytes.zero_weights == 1 && of_bytes.zero_operands == 2));
  probe::count of_floats{.zero_point = 1};
  of_floats(0.0f, 0.0f, -0.0f, 1.0f);
  of_floats(0.0f, 0.0f, polymac::bfloat16(-0.0f), polymac::bfloat16(0.0f));
  of_floats(0.0f, 0.0f, 1.0f, 1.0f);
  CHECK((of_floats.executed == 3 && of_floats.zero_activations == 2 && of_floats.zero_weights == 1));
  CHECK((of_floats.zero_operands == 2 && of_floats.skipped(10) == 7 && of_floats.skipped(2) == 0));
}

template <class M, class P>
std::uint64_t executed_with(linear_problem<M>& problem) {
  const auto fc = polymac::linear<counted<M>, P>(problem.weights(), problem.bias);
  std::vector<typename mac_traits<M>::sum> y(problem.rows * problem.columns);
  probe::count seen;
  {
    const probe::scope<probe::count> here(seen);
    REQUIRE(fc({problem.x.data(), problem.rows, problem.depth}, {y.data(), problem.rows, problem.columns}).ok());
  }
  CHECK(y == problem.run());
  return seen.executed;
}

TEST_CASE("what a policy of weights leaves out is not executed") {
  linear_problem<mac::int8> problem;
  using two_of_four = policy::n_of_m<2, 4>;
  policy::prune<two_of_four>(matrix_view<std::int8_t>(problem.w.data(), problem.columns, problem.depth));
  const std::size_t all = problem.rows * problem.columns * problem.depth;
  CHECK(executed_with<mac::int8, policy::always<two_of_four>>(problem) == problem.rows * problem.columns * (40 / 2));
  CHECK(executed_with<mac::int8, two_of_four>(problem) == all);  // kept dense: nothing is gained in the generic kernel
  const auto live =
      static_cast<std::size_t>(std::count_if(problem.w.begin(), problem.w.end(), [](int w) { return w != 0; }));
  CHECK(executed_with<mac::int8, policy::always<policy::block_list<1, 16>>>(problem) == problem.rows * live);
}

template <policy::pruning Form>
std::uint64_t executed_in_form() {
  constexpr std::size_t kept = 5;
  const linear_problem<mac::int8> problem;
  std::array<std::uint8_t, linear_problem<mac::int8>::depth> important{};
  important[3] = important[30] = 1;
  const auto fc =
      polymac::linear<counted<mac::int8>, policy::pixel_pruning<Form, policy::rescale::none, std::mt19937_64>>(
          polymac::layer::first_layer, problem.weights(), problem.bias, polymac::epilogue::identity{}, {},
          {matrix_view<const std::uint8_t>(important.data(), 1, important.size()), policy::keep_count{kept}});
  auto state = fc.make_state(std::mt19937_64(5));
  std::vector<std::byte> lent(fc.workspace_bytes());
  std::vector<std::int32_t> y(problem.columns);
  probe::count seen;
  {
    const probe::scope<probe::count> here(seen);
    REQUIRE(
        fc({problem.x.data(), 1, problem.depth}, {y.data(), 1, problem.columns}, state, polymac::workspace(lent)).ok());
  }
  for (std::size_t c = 0; c < problem.columns; ++c) {
    auto sum = static_cast<std::int32_t>(problem.bias[c]);
    for (std::size_t k = 0; k < problem.depth; ++k)
      if (state.active()(0, k) != 0) sum += problem.x[k] * problem.w[c * problem.depth + k];
    CHECK(y[c] == sum);
  }
  return seen.executed;
}

TEST_CASE("pixels that are left out are not executed, but for the form that takes no less time") {
  constexpr std::size_t columns = linear_problem<mac::int8>::columns, depth = linear_problem<mac::int8>::depth;
  CHECK(executed_in_form<policy::pruning::branch_skip>() == columns * (2 + 5));
  CHECK(executed_in_form<policy::pruning::list_compact>() == columns * (2 + 5));
  CHECK(executed_in_form<policy::pruning::list_shuffled>() == columns * (2 + 5));
  CHECK(executed_in_form<policy::pruning::zero_fixed>() == columns * depth);
}

TEST_CASE("what has not changed and what is 0 is not executed") {
  constexpr std::size_t rows = 3, depth = 24, columns = 5;
  auto x = numbers<std::int8_t>(rows * depth, 8);
  const auto w = numbers<std::int8_t>(columns * depth, 9);
  const matrix_view<const std::int8_t> weights(w.data(), columns, depth), view(x.data(), rows, depth);
  const std::vector<std::int32_t> bias(columns, 3);
  probe::count products;
  const probe::scope<probe::count> here(products);
  // Two rows of a pair, the new one and the old one, for each element that has changed.
  const auto changes =
      polymac::linear<counted<mac::int8>,
                      policy::always<policy::delta<0, policy::grain::element, policy::update::accumulate>>>(weights,
                                                                                                            bias);
  auto state = changes.make_state(rows);
  products = {};
  REQUIRE(changes(view, state).ok());
  CHECK(products.executed == rows * depth * columns);
  products = {};
  x[5] = static_cast<std::int8_t>(x[5] + 1);
  x[depth + 7] = static_cast<std::int8_t>(x[depth + 7] + 1);
  REQUIRE(changes(view, state).ok());
  CHECK(products.executed == 2 * 2 * columns);
  const auto plain = polymac::linear<mac::int8>(weights, bias);
  std::vector<std::int32_t> expected(rows * columns);
  REQUIRE(plain(view, {expected.data(), rows, columns}).ok());
  CHECK(std::equal(expected.begin(), expected.end(), state.output().data));
  products = {};
  for (std::size_t k = 0; k < rows * depth; ++k)
    if (k % 3 != 0) x[k] = 0;
  std::size_t live = 0;
  for (const auto v : x) live += v != 0 ? 1 : 0;
  const auto zeros = polymac::linear<counted<mac::int8>, policy::always<policy::zero_skip>>(weights, bias);
  auto others = zeros.make_state(rows);
  products = {};
  REQUIRE(zeros(view, others).ok());
  CHECK(products.executed == live * columns);
  CHECK(products.zero_activations == 0);
}

TEST_CASE("convolutions: padding is multiplied by integers, and left out by floats; depthwise; products of matrices") {
  constexpr std::size_t height = 5, width = 6, channels = 3, filters = 4, pixels = height * width;
  const auto x = numbers<std::int8_t>(pixels * channels, 4), w = numbers<std::int8_t>(filters * 9 * channels, 5);
  const auto taps = numbers<std::int8_t>(9 * channels, 6);
  const std::vector<float> real(x.begin(), x.end()), real_w(w.begin(), w.end());
  std::vector<std::byte> lent(1 << 16);
  const polymac::workspace memory(lent);
  probe::count seen;
  const probe::scope<probe::count> here(seen);
  const auto executed = [&seen](const auto& run) {
    seen = {};
    REQUIRE(run().ok());
    return seen.executed;
  };
  std::vector<std::int32_t> y(pixels * filters), y_plain(pixels * filters);
  std::vector<float> real_y(pixels * filters);
  const std::vector<std::int32_t> bias(filters, 7);
  const std::vector<float> real_bias(filters, 7);
  const image_view<const std::int8_t> image(x.data(), 1, height, width, channels),
      kernel(w.data(), filters, 3, 3, channels);
  const polymac::layer::convolution same{.padding = polymac::same}, valid{.padding = polymac::valid};

  const auto conv = polymac::conv2d<counted<mac::int8>>(same, kernel, bias);
  const image_view<std::int32_t> to(y.data(), 1, height, width, filters);
  const auto all = executed([&] { return conv(image, to, memory); });
  // Lines of the kernel that lie above or below the image are left out, the columns beside it are not.
  CHECK(all == (3 * height - 2) * width * 3 * channels * filters);
  CHECK(polymac::conv2d<mac::int8, isa::scalar>(same, kernel, bias)(image, {y_plain.data(), 1, height, width, filters},
                                                                    memory)
            .ok());
  CHECK(y == y_plain);

  const auto inner = polymac::conv2d<counted<mac::int8>>(valid, kernel, bias);
  CHECK(executed([&] {
          return inner(image, {y.data(), 1, height - 2, width - 2, filters}, memory);
        }) == (height - 2) * (width - 2) * 9 * channels * filters);

  const auto of_floats = polymac::conv2d<counted<mac::float32>>(
      same, image_view<const float>(real_w.data(), filters, 3, 3, channels), real_bias);
  CHECK(executed([&] {
          return of_floats(image_view<const float>(real.data(), 1, height, width, channels),
                           image_view<float>(real_y.data(), 1, height, width, filters), memory);
        }) == (3 * height - 2) * (3 * width - 2) * channels * filters);
  CHECK(std::equal(real_y.begin(), real_y.end(), y_plain.begin()));

  const auto depthwise = polymac::depthwise_conv2d<counted<mac::int8>>(
      {.padding = polymac::valid}, image_view<const std::int8_t>(taps.data(), 1, 3, 3, channels),
      std::vector<std::int32_t>(channels));
  CHECK(executed([&] {
          return depthwise(image, {y.data(), 1, height - 2, width - 2, channels}, memory);
        }) == (height - 2) * (width - 2) * 9 * channels);

  const matrix_view<const std::int8_t> a(x.data(), 5, 18), b(w.data(), 6, 18);
  std::vector<std::int32_t> product(30), product_plain(30);
  CHECK(executed([&] {
          return polymac::product<counted<mac::int8>>(a, b, matrix_view<std::int32_t>(product.data(), 5, 6), memory);
        }) >= 5 * 6 * 18);  // and those that fold zero points on the way
  CHECK(polymac::product<mac::int8, isa::scalar>(a, b, matrix_view<std::int32_t>(product_plain.data(), 5, 6), memory)
            .ok());
  CHECK(product == product_plain);
}

// ---- probes ------------------------------------------------------------------------------------------------------------

TEST_CASE("energy: the sums of the table") {
  const linear_problem<mac::int8> problem;
  using watching = probe::energy<>;
  const auto fc = polymac::linear<probe::probed<mac::int8, watching>>(problem.weights(), problem.bias);
  std::vector<std::int32_t> y(problem.rows * problem.columns);
  watching of{
      .cost = {.read_activation = probe::energy_table{}.read_sram, .read_weight = probe::energy_table{}.read_dram}};
  {
    const probe::scope<watching> here(of);
    REQUIRE(fc({problem.x.data(), problem.rows, problem.depth}, {y.data(), problem.rows, problem.columns}).ok());
  }
  constexpr double products =
      linear_problem<mac::int8>::rows * linear_problem<mac::int8>::columns * linear_problem<mac::int8>::depth;
  CHECK(of.products == static_cast<std::uint64_t>(products));
  CHECK(of.picojoules == Approx(products * (0.2 + 0.1 + 5.0 / 4 + 640.0 / 4)));

  constexpr probe::energy_table table;
  CHECK(table.multiply<float, float>() + table.add<float>() == Approx(4.6));
  CHECK(table.multiply<polymac::float16, polymac::float16>() == Approx(1.1));
  CHECK(table.multiply<polymac::bfloat16, polymac::bfloat16>() == Approx(1.1 * 64 / 121));
  CHECK(table.multiply<polymac::e4m3fn, polymac::e4m3fn>() == Approx(1.1 * 16 / 121));
  CHECK(table.multiply<std::int32_t, std::int32_t>() == Approx(3.1));
  CHECK(table.multiply<std::int16_t, std::int8_t>() == Approx(0.4));
  CHECK(table.add<std::int8_t>() == Approx(0.03));
  CHECK(table.add<polymac::float16>() == Approx(0.4));
  probe::energy<probe::constant_cost> own{.cost = {.picojoules = 2.5}};
  own(0, 1, mac::sign_word{}, mac::sign_word{});
  own(0, 1, mac::sign_word{}, mac::sign_word{});
  CHECK(own.picojoules == Approx(5.0));
}

TEST_CASE("leakage: bits of the sums, in the order of execution, and noise of the asked spread") {
  const linear_problem<mac::int8> problem;
  const auto trace_of = [&]<class Model>(Model, std::size_t length) {
    using watching = probe::leakage<Model>;
    const auto fc = polymac::linear<probe::probed<mac::int8, watching>>(problem.weights(), problem.bias);
    std::vector<std::int32_t> y(problem.rows * problem.columns);
    std::vector<float> trace(length, -1.0f);
    std::mt19937_64 generator(1);
    watching of(trace, 0.0, generator);
    {
      const probe::scope<watching> here(of);
      REQUIRE(fc({problem.x.data(), problem.rows, problem.depth}, {y.data(), problem.rows, problem.columns}).ok());
    }
    CHECK(of.samples() == problem.rows * problem.columns * problem.depth);
    return trace;
  };
  constexpr std::size_t depth = linear_problem<mac::int8>::depth;
  std::vector<float> weights, distances;
  for (std::size_t c = 0; c < 2; ++c) {
    auto sum = static_cast<std::int32_t>(problem.bias[c]);
    for (std::size_t k = 0; k < depth; ++k) {
      const std::int32_t next = sum + problem.x[k] * problem.w[c * depth + k];
      weights.push_back(static_cast<float>(std::popcount(static_cast<std::uint32_t>(next))));
      distances.push_back(static_cast<float>(std::popcount(static_cast<std::uint32_t>(next ^ sum))));
      sum = next;
    }
  }
  CHECK(trace_of(probe::hamming_weight{}, 2 * depth) == weights);
  CHECK(trace_of(probe::hamming_distance{}, 2 * depth) == distances);

  CHECK(probe::hamming_weight{}(0.0f, 1.0f) == 7);  // 0x3F800000
  CHECK(probe::hamming_distance{}(-1.0f, 1.0f) == 1);
  CHECK(probe::hamming_weight{}(std::int64_t{0}, std::int64_t{-1}) == 64);

  std::mt19937 generator(20240607);  // of 32 bits; a seed of its own, for the bounds are those of these numbers
  probe::gaussian<std::mt19937> normal(generator);
  constexpr int count = 40000;
  double sum = 0, squares = 0, fourth = 0;
  for (int i = 0; i < count; ++i) {
    const double v = normal();
    sum += v;
    squares += v * v;
    fourth += v * v * v * v;
  }
  CHECK(std::abs(sum / count) < 0.02);          // 4 sigma
  CHECK(std::abs(squares / count - 1) < 0.03);  // sigma = sqrt(2 / n) = 0.0071
  CHECK(std::abs(fourth / count - 3) < 0.2);    // sigma = sqrt(96 / n) = 0.049

  std::array<float, 6> trace{};
  std::mt19937_64 source(2);
  probe::leakage<> noisy(trace, 2.0, source);
  noisy(0, 0xFF, 1, 1);
  CHECK(noisy.samples() == 1);
  CHECK(trace[0] != 8.0f);
  noisy.fill_up();
  CHECK(noisy.samples() == 6);
  CHECK(std::all_of(trace.begin(), trace.end(), [](float v) { return v != 0.0f && std::abs(v) < 18.0f; }));
  std::array<float, 1> next{};
  noisy.restart(next);
  CHECK(noisy.samples() == 0);
}

// ---- statistics --------------------------------------------------------------------------------------------------------

double mean_of(const std::vector<double>& v) {
  double sum = 0;
  for (const double x : v) sum += x;
  return sum / static_cast<double>(v.size());
}
double naive_correlation(const std::vector<double>& x, const std::vector<double>& y) {
  const double mx = mean_of(x), my = mean_of(y);
  double xy = 0, xx = 0, yy = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mx) * (y[i] - my);
    xx += (x[i] - mx) * (x[i] - mx);
    yy += (y[i] - my) * (y[i] - my);
  }
  return xy / std::sqrt(xx * yy);
}

TEST_CASE("correlation: as the formula in two passes, also far from zero") {
  constexpr std::size_t guesses = 5, samples = 3, traces = 200;
  random_source random(7);
  probe::correlation found(guesses, samples);
  std::vector<std::vector<double>> h(guesses), l(samples);
  for (std::size_t i = 0; i < traces; ++i) {
    std::array<float, guesses> predictions{};
    std::array<float, samples> trace{};
    for (std::size_t c = 0; c < guesses; ++c) {
      predictions[c] = c == 4 ? 3.0f : static_cast<float>(random.integer(0, 32));  // the last one never changes
      h[c].push_back(predictions[c]);
    }
    for (std::size_t t = 0; t < samples; ++t) {
      const float signal = t == 1 ? 0.5f * predictions[2] : 0.0f;
      trace[t] = 10000.0f + signal + 4 * random.unit();
      l[t].push_back(trace[t]);
    }
    REQUIRE(found.add(predictions, trace).ok());
  }
  CHECK(found.traces() == traces);
  for (std::size_t c = 0; c + 1 < guesses; ++c) {
    double most = 0;
    for (std::size_t t = 0; t < samples; ++t) {
      const double rho = naive_correlation(h[c], l[t]);
      CHECK(found(c, t) == Approx(rho).margin(1e-9));
      most = std::max(most, std::abs(rho));
    }
    CHECK(found.score(c) == Approx(most).margin(1e-9));
  }
  CHECK((found(4, 0) == 0.0 && found.score(4) == 0.0 && found.rank(4) == guesses));
  CHECK((found.rank(2) == 1 && found.score(2) > 0.9));
  CHECK(found.best_score_without(2) == Approx(std::max({found.score(0), found.score(1), found.score(3)})));

  const std::array<float, 4> few{};
  const std::array<float, samples> trace{};
  const auto refused = found.add(few, trace);
  CHECK(refused.code() == polymac::errc::shape);
  CHECK(std::string_view(refused.c_str()) == "correlation: expected 5 predictions and 3 samples, got 4 and 3");
  CHECK(found.traces() == traces);
}

TEST_CASE("traces to disclosure: the first number after which the rank stays 1") {
  probe::disclosure d;
  CHECK(!d.traces());
  d.add(10, 1);
  d.add(20, 3);
  CHECK(!d.traces());
  d.add(40, 1);
  d.add(80, 1);
  CHECK(d.traces() == 40u);
  // Mangard's rule at 99.99 %.
  CHECK(probe::traces_for(0.6) == Approx(61).epsilon(0.02));
  CHECK(probe::traces_for(0.15) == Approx(1214).epsilon(0.001));
  CHECK(probe::traces_for(-0.01) == Approx(276604).epsilon(0.001));
}

TEST_CASE("t-test: as Welch's formula in two passes, of both orders") {
  using group = probe::t_test::group;
  constexpr std::size_t samples = 3;
  random_source random(8);
  probe::t_test found(samples), again(samples);
  CHECK(found(0) == 0.0);
  std::vector<std::vector<double>> of[2] = {std::vector<std::vector<double>>(samples),
                                            std::vector<std::vector<double>>(samples)};
  for (int i = 0; i < 900; ++i) {
    const std::size_t g = random.integer(0, 2) == 0 ? 0 : 1;  // of different sizes
    std::array<float, samples> trace{};
    for (std::size_t t = 0; t < samples; ++t) {
      const float noise = random.unit() + random.unit() - 1;
      // The second sample has another mean in one group, the third another spread.
      trace[t] = 50.0f + (t == 1 && g == 0 ? 0.5f : 0.0f) + (t == 2 && g == 0 ? 2 : 1) * noise;
      of[g][t].push_back(trace[t]);
    }
    REQUIRE(found.add(g == 0 ? group::fixed : group::random, trace).ok());
    REQUIRE(again.add(g == 0 ? group::fixed : group::random, trace).ok());
  }
  CHECK(found.traces(group::fixed) + found.traces(group::random) == 900);
  const auto naive = [&](std::size_t t, int order) {
    double mean[2], error = 0;
    for (std::size_t g = 0; g < 2; ++g) {
      std::vector<double> v = of[g][t];
      if (const double m = mean_of(v); order == 2)
        for (double& x : v) x = (x - m) * (x - m);
      mean[g] = mean_of(v);
      double squares = 0;
      for (const double x : v) squares += (x - mean[g]) * (x - mean[g]);
      error += squares / static_cast<double>(v.size() - 1) / static_cast<double>(v.size());
    }
    return (mean[0] - mean[1]) / std::sqrt(error);
  };
  for (const int order : {1, 2}) {
    double most = 0;
    for (std::size_t t = 0; t < samples; ++t) {
      CHECK(found(t, order) == Approx(naive(t, order)).epsilon(1e-6));
      most = std::max(most, std::abs(found(t, order)));
    }
    CHECK(found.largest(order) == most);
  }
  const double threshold = probe::t_threshold(samples);
  CHECK((std::abs(found(1, 1)) > threshold && std::abs(found(2, 1)) < threshold));
  CHECK((std::abs(found(2, 2)) > threshold && std::abs(found(0, 2)) < threshold));
  CHECK(probe::leaking_samples(found, again, threshold, 1) == 1);
  CHECK(probe::leaking_samples(found, probe::t_test(samples), threshold, 1) == 0);  // the other run does not say so

  probe::t_test constant(1);
  for (int i = 0; i < 3; ++i) {
    const std::array<float, 1> one{1.0f}, two{2.0f};
    REQUIRE(constant.add(group::fixed, one).ok());
    REQUIRE(constant.add(group::random, two).ok());
  }
  CHECK(std::isinf(constant(0)));
  CHECK(constant(0, 2) == 0.0);
  CHECK(constant.add(group::fixed, std::array<float, 2>{}).code() == polymac::errc::shape);
}

TEST_CASE("t-test: the threshold grows with the length of a trace") {
  // Quantiles of the normal distribution for 1e-5 among so many samples.
  CHECK(probe::t_threshold(1) == Approx(4.417).epsilon(1e-3));
  CHECK(probe::t_threshold(100) == Approx(5.33).epsilon(1e-3));
  CHECK(probe::t_threshold(1000) == Approx(5.73).epsilon(1e-3));
  CHECK(probe::t_threshold(10000) == Approx(6.11).epsilon(1e-3));
  CHECK(probe::t_threshold(1000000) == Approx(6.81).epsilon(1e-3));
  CHECK(probe::t_threshold(1, 0.05) == Approx(1.96).epsilon(1e-3));
}

}  // namespace
