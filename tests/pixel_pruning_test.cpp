// SPDX-License-Identifier: MIT
// policy::pixel_pruning: every form gives the bits of the dense layer on the image in which inactive pixels hold the
// zero point; maps have their length, their probabilities and no memory; what does not fit is refused in words.
#include "catch.hpp"
#include "support/arithmetic_data.hpp"
#include "support/arithmetics.hpp"
#include "support/complaint.hpp"
#include "support/random.hpp"

#include <polymac/sparsity.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/test_code.hpp"

using namespace polymac_test;
namespace pm = polymac;
namespace policy = polymac::policy;
using pm::image_view;
using pm::matrix_view;
using policy::pruning;
using policy::rescale;

namespace {

using generator = std::mt19937_64;
template <pruning Form, rescale Rescale = rescale::none>
using pixels = policy::pixel_pruning<Form, Rescale, generator>;

struct problem {
  pm::layer::convolution c{};
  std::size_t height = 7, width = 9, channels = 3, filters = 6;
  pm::extent2d kernel{3, 3};
};

template <class T>
bool near_enough(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::abs(a[i] - b[i]) > T(1e-4) * (T(1) + std::abs(b[i]))) return false;
    } else if (a[i] != b[i]) {
      return false;
    }
  }
  return true;
}

/// x with zero points where `active` is 0.
template <class A>
std::vector<A> masked(std::vector<A> x, const std::uint8_t* active, std::size_t pixel_count, std::size_t channels,
                      A zero, std::size_t from = 0) {
  for (std::size_t p = 0; p < pixel_count; ++p)
    for (std::size_t c = 0; c < channels && active[p] == 0; ++c) x[from + p * channels + c] = zero;
  return x;
}
std::int64_t rounded(std::int64_t value, std::int64_t times, std::int64_t over) {  // halves away from 0
  const std::int64_t magnitude = ((value < 0 ? -value : value) * 2 * times + over) / (2 * over);
  return value < 0 ? -magnitude : magnitude;
}

template <class M, pruning Form, rescale Rescale = rescale::none>
std::string conv_case(random_source& random, const problem& p,
                      policy::importance_map (*keep)(matrix_view<const std::uint8_t>)) {
  using activation = typename M::activation;
  using sum = typename pm::mac_traits<M>::sum;
  const std::size_t count = p.height * p.width, in = p.channels / p.c.groups;
  const auto w = random_weights<M>(random, p.filters * p.kernel.height * p.kernel.width * in);
  auto bias = random_bias<M>(random, p.filters);
  if constexpr (Rescale == rescale::unbiased)  // sums that may saturate, each by itself, are another matter
    for (auto& b : bias) b = static_cast<typename pm::mac_traits<M>::wide>(b / 1000000);
  const zero_points<M> zeros(random, 1);
  const pm::layer::quantization<M> q{zeros.activation, {}};
  const image_view<const typename M::weight> weights(w.data(), p.filters, p.kernel.height, p.kernel.width, in);
  std::vector<std::uint8_t> important(count);
  for (auto& v : important) v = random.integer(0, 3) == 0 ? 1 : 0;
  const auto map = keep({important.data(), p.height, p.width});
  const auto pruned = pm::conv2d<M, pixels<Form, Rescale>>(pm::layer::first_layer, p.c, weights, bias,
                                                           pm::epilogue::identity{}, q, map);
  const auto dense = pm::conv2d<M, pm::isa::scalar>(p.c, weights, bias, {}, q);
  const auto x = random_activations<M>(random, 2 * count * p.channels);
  const auto o = pruned.output_size();
  const std::size_t outputs = o.height * o.width * p.filters;
  auto state = pruned.make_state(generator(7)), twin = pruned.make_state(generator(7));
  std::vector<std::byte> memory(pruned.workspace_bytes()), other(dense.workspace_bytes({p.height, p.width}));
  const std::string what = std::string(M::name) + ", form " + std::to_string(static_cast<int>(Form)) + ", " +
                           std::to_string(p.channels) + " -> " + std::to_string(p.filters);
  const auto run_dense = [&](const std::vector<activation>& image) {
    std::vector<sum> y(outputs);
    if (!dense({image.data(), 1, p.height, p.width, p.channels}, {y.data(), 1, o.height, o.width, p.filters},
               pm::workspace(other))
             .ok())
      y.clear();
    return y;
  };
  std::vector<sum> both(2 * outputs);
  for (std::size_t n = 0; n < 2; ++n) {
    const std::vector<activation> image(x.begin() + static_cast<std::ptrdiff_t>(n * count * p.channels),
                                        x.begin() + static_cast<std::ptrdiff_t>((n + 1) * count * p.channels));
    std::vector<sum> got(outputs);
    const auto s = pruned({image.data(), 1, p.height, p.width, p.channels},
                          {got.data(), 1, o.height, o.width, p.filters}, state, pm::workspace(memory));
    if (!s.ok()) return what + s.c_str();
    const auto active = state.active();
    std::size_t on = 0;
    for (std::size_t i = 0; i < count; ++i) {
      on += active.data[i];
      if (important[i] != 0 && active.data[i] != 1) return what + ": an important pixel is off";
    }
    if (on != pruned.pixels().active()) return what + ": not as many pixels as promised";
    auto expected = run_dense(masked(image, active.data, count, p.channels, q.activation_zero_point));
    if constexpr (Rescale == rescale::unbiased) {
      // bias + important + round(drawn x droppable / kept), from dense layers.
      const auto a = run_dense(masked(image, important.data(), count, p.channels, q.activation_zero_point));
      const auto all = static_cast<std::int64_t>(pruned.pixels().droppable()),
                 kept = static_cast<std::int64_t>(pruned.pixels().kept());
      for (std::size_t i = 0; i < outputs && kept > 0; ++i) {
        if constexpr (std::is_integral_v<sum>)
          expected[i] = static_cast<sum>(a[i] + rounded(std::int64_t{expected[i]} - a[i], all, kept));
        else
          expected[i] = a[i] + (expected[i] - a[i]) * (static_cast<sum>(all) / static_cast<sum>(kept));
      }
    }
    if (!near_enough(got, expected)) return what + ": not the sums of the dense layer on the masked image";
  }
  // A batch is one image after the other; the same seed draws the same maps.
  auto again = pruned.make_state(generator(7));
  if (!pruned({x.data(), 2, p.height, p.width, p.channels}, {both.data(), 2, o.height, o.width, p.filters}, twin,
              pm::workspace(memory))
           .ok())
    return what + ": batch";
  std::vector<sum> last(outputs);
  for (int i = 0; i < 2; ++i)
    if (!pruned({x.data() + static_cast<std::size_t>(i) * count * p.channels, 1, p.height, p.width, p.channels},
                {last.data(), 1, o.height, o.width, p.filters}, again, pm::workspace(memory))
             .ok())
      return what + ": again";
  const std::vector<sum> second(both.begin() + static_cast<std::ptrdiff_t>(outputs), both.end());
  return second == last ? "" : what + ": the same seed gives another second image";
}

policy::importance_map half(matrix_view<const std::uint8_t> map) { return {map, policy::keep_share{0.5}}; }
policy::importance_map none(matrix_view<const std::uint8_t> map) { return {map, policy::keep_count{0}}; }
policy::importance_map all(matrix_view<const std::uint8_t> map) { return {map, policy::keep_share{1}}; }
policy::importance_map few(matrix_view<const std::uint8_t> map) { return {map, policy::keep_count{3}}; }

template <class M, pruning Form>
void forms() {
  random_source random(static_cast<std::uint64_t>(Form) + 10);
  const std::vector<problem> problems = {
      {{.padding = pm::same}},
      {{.stride = {2, 2}, .padding = pm::same}, 8, 10, 3, 16},
      {{.dilation = {2, 2}, .padding = {1, 0, 2, 3}}, 8, 9, 4, 33},
      {{.stride = {1, 3}, .padding = pm::valid, .groups = 2}, 6, 11, 10, 6},
      {{}, 5, 6, 3, 5, {1, 1}},
      {{.padding = pm::same}, 9, 12, 1, 20, {5, 5}},
  };
  for (const auto& p : problems) CHECK(conv_case<M, Form>(random, p, half) == "");
  CHECK(conv_case<M, Form>(random, problems[0], none) == "");
  CHECK(conv_case<M, Form>(random, problems[0], all) == "");
  CHECK(conv_case<M, Form>(random, problems[0], few) == "");
  if constexpr (M::exact || std::is_floating_point_v<typename pm::mac_traits<M>::sum>)
    for (const auto keep : {half, none, all, few})
      CHECK(conv_case<M, Form, rescale::unbiased>(random, problems[1], keep) == "");
}

template <class M, pruning Form, rescale Rescale>
std::string linear_case(random_source& random, std::size_t channels) {
  using sum = typename pm::mac_traits<M>::sum;
  const std::size_t height = 4, width = 5, depth = height * width * channels, columns = 18, rows = 30;
  const auto w = random_weights<M>(random, columns * depth);
  const std::vector<int> bias(columns, 77);
  const zero_points<M> zeros(random, 1);
  const pm::layer::quantization<M> q{zeros.activation, {}};
  const matrix_view<const typename M::weight> weights(w.data(), columns, depth);
  std::vector<std::uint8_t> important(height * width);
  for (auto& v : important) v = random.integer(0, 3) == 0 ? 9 : 0;
  const auto pruned = pm::linear<M, pixels<Form, Rescale>>(
      pm::layer::first_layer, weights, bias, pm::epilogue::identity{}, q,
      policy::importance_map({important.data(), height, width}, policy::keep_count{5}));
  const auto dense = pm::linear<M, pm::isa::scalar>(weights, bias, {}, q);
  const auto x = random_activations<M>(random, rows * depth);
  std::vector<std::byte> memory(pruned.workspace_bytes());
  auto state = pruned.make_state(generator(3)), together = pruned.make_state(generator(3));
  std::vector<sum> all_rows(rows * columns);
  if (!pruned({x.data(), rows, depth}, {all_rows.data(), rows, columns}, together, pm::workspace(memory)).ok())
    return "call";
  for (std::size_t r = 0; r < rows; ++r) {
    std::vector<sum> got(columns), expected(columns), a(columns);
    if (!pruned({x.data() + r * depth, 1, depth}, {got.data(), 1, columns}, state, pm::workspace(memory)).ok())
      return "row";
    const auto y = masked(x, state.active().data, height * width, channels, q.activation_zero_point, r * depth);
    if (!dense({y.data() + r * depth, 1, depth}, {expected.data(), 1, columns}).ok()) return "dense";
    if constexpr (Rescale == rescale::unbiased) {
      const auto z = masked(x, important.data(), height * width, channels, q.activation_zero_point, r * depth);
      if (!dense({z.data() + r * depth, 1, depth}, {a.data(), 1, columns}).ok()) return "dense";
      for (std::size_t c = 0; c < columns; ++c)
        expected[c] = static_cast<sum>(a[c] + rounded(std::int64_t{expected[c]} - a[c],
                                                      static_cast<std::int64_t>(pruned.pixels().droppable()), 5));
    }
    if (!near_enough(got, expected)) return std::string(M::name) + ": row " + std::to_string(r);
    if (!std::equal(got.begin(), got.end(), all_rows.begin() + static_cast<std::ptrdiff_t>(r * columns)))
      return "rows by themselves differ";
  }
  return "";
}

template <pruning Form>
void linear_forms() {
  random_source random(40 + static_cast<std::uint64_t>(Form));
  CHECK(linear_case<pm::mac::int8, Form, rescale::none>(random, 1) == "");
  CHECK(linear_case<pm::mac::int16x8, Form, rescale::none>(random, 3) == "");
  CHECK(linear_case<pm::mac::uint8, Form, rescale::unbiased>(random, 2) == "");
  CHECK(linear_case<shallow, Form, rescale::none>(random, 2) == "");
}

policy::pixel_choice choice_of(const std::vector<std::uint8_t>& important, std::size_t height, std::size_t width,
                               std::size_t kept) {
  policy::pixel_choice choice;
  REQUIRE(choice.construct("test", {{important.data(), height, width}, policy::keep_count{kept}}).ok());
  return choice;
}
template <class G>
policy::pixel_state<G> state_of(const policy::pixel_choice& choice, G g) {
  policy::pixel_state<G> state(std::move(g));
  state.reserve(choice);
  REQUIRE(state.status().ok());
  return state;
}

/// 24 bits in an odd range: what a user's own generator may look like.
struct odd_generator {
  using result_type = std::uint32_t;
  static constexpr result_type min() { return 5; }
  static constexpr result_type max() { return 5 + 10'000'000; }
  std::mt19937 inner{11};
  result_type operator()() { return std::uniform_int_distribution<result_type>(min(), max())(inner); }
};

/// chi-square of how often each droppable pixel was kept, over so many draws: of mean n - 1, where n are droppable.
template <class G>
void check_statistics(G g, std::size_t kept_of_40) {
  const std::size_t height = 5, width = 13;
  std::vector<std::uint8_t> important(height * width);
  for (std::size_t i = 0; i < important.size(); ++i) important[i] = i % 13 < 5 ? 1 : 0;  // 40 are droppable
  const auto choice = choice_of(important, height, width, kept_of_40);
  REQUIRE(choice.droppable() == 40);
  auto state = state_of(choice, std::move(g));
  constexpr std::size_t draws = 100'000;
  std::vector<double> kept(important.size());
  std::vector<double> pairs(40 * 40);
  double repeated = 0;
  std::vector<std::uint8_t> before(important.size());
  for (std::size_t d = 0; d < draws; ++d) {
    state.draw(choice);
    const auto active = state.active();
    std::size_t on = 0;
    std::array<std::size_t, 40> list{};
    std::size_t listed = 0, place = 0;
    for (std::size_t i = 0; i < important.size(); ++i) {
      on += active.data[i];
      if (important[i] != 0) {
        if (active.data[i] != 1 || state.is_drawn(choice, i / width, i % width))
          FAIL("an important pixel was drawn, or is off");
        continue;
      }
      kept[i] += active.data[i];
      if (active.data[i] != 0) list[listed++] = place;
      repeated += active.data[i] & before[i];
      before[i] = active.data[i];
      ++place;
    }
    if (on != choice.active()) FAIL("expected " << choice.active() << " active pixels, got " << on);
    for (std::size_t a = 0; a < listed; ++a)
      for (std::size_t b = 0; b < a; ++b) ++pairs[list[a] * 40 + list[b]];
  }
  const double n = 40, k = static_cast<double>(kept_of_40), p = k / n;
  // Hypergeometric indicators: sum (O - E)^2 / (draws p (1 - p)) has mean n, of which the fixed length takes one.
  double chi = 0;
  for (std::size_t i = 0; i < important.size(); ++i)
    if (important[i] == 0) chi += (kept[i] - draws * p) * (kept[i] - draws * p) / (draws * p * (1 - p));
  chi *= (n - 1) / n;
  CHECK(chi < 39 + 5 * std::sqrt(2 * 39.0));
  CHECK(chi > 39 - 4.4 * std::sqrt(2 * 39.0));
  const double both = k * (k - 1) / (n * (n - 1));
  double of_pairs = 0;
  for (std::size_t a = 0; a < 40; ++a)
    for (std::size_t b = 0; b < a; ++b)
      of_pairs += (pairs[a * 40 + b] - draws * both) * (pairs[a * 40 + b] - draws * both) / (draws * both * (1 - both));
  CHECK(std::abs(of_pairs - 780) < 6 * std::sqrt(2 * 780.0));
  // From call to call: a kept pixel is kept again as often as any.
  const double expected = (draws - 1) * k * p, spread = std::sqrt(draws * k * p * (1 - p) * (1 - p) * n / (n - 1));
  CHECK(std::abs(repeated - expected) < 5 * spread);
}

}  // namespace

TEST_CASE("every form gives the dense sums of the masked image: integers") {
  forms<pm::mac::int8, pruning::branch_skip>();
  forms<pm::mac::int8, pruning::list_compact>();
  forms<pm::mac::int8, pruning::list_shuffled>();
  forms<pm::mac::int8, pruning::zero_fixed>();
  forms<pm::mac::uint8, pruning::list_compact>();
  forms<pm::mac::uint8, pruning::zero_fixed>();
}

TEST_CASE("every form gives the dense sums of the masked image: other arithmetics") {
  forms<pm::mac::int16x8, pruning::branch_skip>();
  forms<pm::mac::int16x8, pruning::list_compact>();
  forms<pm::mac::float32, pruning::branch_skip>();
  forms<pm::mac::float32, pruning::list_compact>();
  forms<pm::mac::float32, pruning::list_shuffled>();
  forms<pm::mac::float32, pruning::zero_fixed>();
  forms<shallow, pruning::list_compact>();
  forms<power_of_two, pruning::list_shuffled>();
}

TEST_CASE("linear layers, a pixel of one or several elements") {
  linear_forms<pruning::branch_skip>();
  linear_forms<pruning::list_compact>();
  linear_forms<pruning::list_shuffled>();
  linear_forms<pruning::zero_fixed>();
}

TEST_CASE("maps are drawn uniformly, pixel by pixel, in pairs, and from call to call") {
  check_statistics(generator(1), 20);
  check_statistics(generator(2), 7);
  check_statistics(generator(3), 39);
  check_statistics(std::mt19937(4), 13);
  check_statistics(odd_generator{}, 25);
}

TEST_CASE("the map of the published attack has 17 important pixels") {
  // Bytes of IaPAM in DoktorC/double-strike-host2026, the highest bit first.
  std::vector<std::uint8_t> important;
  for (const int byte : {0x7a, 0xf2, 0xaa, 0xd0})
    for (int bit = 7; bit >= 0; --bit) important.push_back(static_cast<std::uint8_t>(byte >> bit & 1));
  CHECK(choice_of(important, 1, 32, 0).active() == 17);
  CHECK(choice_of(important, 1, 32, 7).active() == 24);
  CHECK(choice_of(important, 1, 32, 15).active() == 32);
}

TEST_CASE("orders are drawn uniformly") {
  generator g(5);
  policy::detail::random_words<generator> words(g);
  std::array<double, 24> seen{};
  constexpr int draws = 48'000;
  for (int d = 0; d < draws; ++d) {
    int list[4] = {0, 1, 2, 3};
    policy::detail::shuffle(words, list, 4);
    const int code = list[0] * 6 + (list[1] - (list[1] > list[0] ? 1 : 0)) * 2 + (list[2] > list[3] ? 1 : 0);
    ++seen[static_cast<std::size_t>(code)];
  }
  double chi = 0;
  for (const double s : seen) chi += (s - draws / 24.0) * (s - draws / 24.0) / (draws / 24.0);
  CHECK(chi < 23 + 5 * std::sqrt(46.0));
  // Long lists: nothing is lost, and the first place gets every element.
  std::vector<int> list(70'000);
  double mean = 0;
  for (int d = 0; d < 20; ++d) {
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = static_cast<int>(i);
    policy::detail::shuffle(words, list.data(), list.size());
    mean += list[0] / 20.0;
  }
  CHECK(std::abs(mean - 35'000) < 5 * 70'000 / std::sqrt(12.0 * 20));
  std::vector<bool> there(list.size());
  for (const int i : list) there[static_cast<std::size_t>(i)] = true;
  CHECK(std::find(there.begin(), there.end(), false) == there.end());
}

TEST_CASE("states draw what their seeds say, can be moved and seeded anew") {
  const std::vector<std::uint8_t> important(96 * 96);
  const auto choice = choice_of(important, 96, 96, 4608);
  auto a = state_of(choice, generator(9)), b = state_of(choice, generator(9));
  const auto map_of = [](const auto& s) {
    return std::vector<std::uint8_t>(s.active().data, s.active().data + 96 * 96);
  };
  a.draw(choice), b.draw(choice);
  const auto first = map_of(a);
  CHECK(first == map_of(b));
  a.draw(choice);
  CHECK(first != map_of(a));
  auto moved = std::move(b);
  a.reseed(generator(9)), a.draw(choice);
  CHECK(first == map_of(a));
  CHECK(first == map_of(moved));
  static_assert(!std::is_copy_constructible_v<decltype(moved)>);
}

TEST_CASE("unbiased sums are the dense ones on average") {
  random_source random(77);
  const std::size_t depth = 24, columns = 4;
  const auto w = uniform<std::int8_t>(random, columns * depth);
  const auto x = uniform<std::uint8_t>(random, depth);
  std::vector<std::uint8_t> important(depth);
  for (std::size_t i = 0; i < 6; ++i) important[i * 3] = 1;
  const matrix_view<const std::int8_t> weights(w.data(), columns, depth);
  const std::vector<int> bias(columns, 1000);
  const pm::layer::quantization<pm::mac::uint8> q{100, {}};
  const auto pruned = pm::linear<pm::mac::uint8, pixels<pruning::list_compact, rescale::unbiased>>(
      pm::layer::first_layer, weights, bias, pm::epilogue::identity{}, q,
      policy::importance_map({important.data(), 1, depth}, policy::keep_count{7}));
  const auto dense = pm::linear<pm::mac::uint8>(weights, bias, {}, q);
  std::vector<std::int32_t> expected(columns), y(columns);
  REQUIRE(dense({x.data(), 1, depth}, {expected.data(), 1, columns}).ok());
  auto state = pruned.make_state(generator(6));
  std::vector<std::byte> memory(pruned.workspace_bytes());
  constexpr int draws = 20'000;
  std::vector<double> mean(columns), square(columns);
  for (int d = 0; d < draws; ++d) {
    REQUIRE(pruned({x.data(), 1, depth}, {y.data(), 1, columns}, state, pm::workspace(memory)).ok());
    for (std::size_t c = 0; c < columns; ++c) {
      mean[c] += y[c] / static_cast<double>(draws);
      square[c] += static_cast<double>(y[c]) * y[c] / draws;
    }
  }
  for (std::size_t c = 0; c < columns; ++c) {
    const double spread = std::sqrt((square[c] - mean[c] * mean[c]) / draws);
    CHECK(std::abs(mean[c] - expected[c]) < 5 * spread + 0.01);
  }
}

TEST_CASE("what does not fit is refused in words") {
  const std::vector<std::int8_t> w(4 * 27);
  const std::vector<int> bias(4);
  const std::vector<std::uint8_t> important(64);
  const image_view<const std::int8_t> weights(w.data(), 4, 3, 3, 3);
  using policy_type = pixels<pruning::list_compact>;
  const auto build = [&](policy::importance_map map) {
    return pm::conv2d<pm::mac::int8, policy_type>(pm::layer::first_layer, {.padding = pm::same}, weights, bias,
                                                  pm::epilogue::identity{}, {}, map);
  };
  const matrix_view<const std::uint8_t> view(important.data(), 8, 8);
  CHECK(complaint([&] {
          build({view, policy::keep_share{1.5}});
        }) == "conv2d: expected a share of pixels to keep in [0, 1], got 1500 thousandths");
  CHECK(complaint([&] {
          build({view, policy::keep_share{-0.1}});
        }) == "conv2d: expected a share of pixels to keep in [0, 1], got less than 0, infinity or no number");
  CHECK(complaint([&] {
          build({view, policy::keep_count{65}});
        }) == "conv2d: expected to keep at most the 64 pixels of the importance map that are not important, got 65");
  CHECK(complaint([&] {
          build({{important.data(), 0, 8}, policy::keep_share{0.5}});
        }) == "conv2d: expected an importance map of at least 1 x 1 pixels, got 0 x 8");
  CHECK(complaint([&] {
          build({{nullptr, 8, 8}, policy::keep_share{0.5}});
        }) == "conv2d: the view of the importance map has no data");
  CHECK(complaint([&] {
          const matrix_view<const std::int8_t> matrix(w.data(), 4, 27);
          pm::linear<pm::mac::int8, policy_type>(pm::layer::first_layer, matrix, bias, pm::epilogue::identity{}, {},
                                                 policy::importance_map(view, policy::keep_share{0.5}));
        }) == "linear: expected an importance map whose pixels divide the depth 27, got 8 x 8");

  const auto conv = build({view, policy::keep_share{0.5}});
  auto state = conv.make_state(generator(1));
  std::vector<std::int8_t> x(81 * 3);
  std::vector<std::int32_t> y(81 * 4, 5);
  std::vector<std::byte> memory(conv.workspace_bytes());
  const auto untouched = y;
  CHECK(std::string(conv({x.data(), 1, 9, 9, 3}, {y.data(), 1, 9, 9, 4}, state, pm::workspace(memory)).c_str()) ==
        "conv2d: expected x of 8 x 8 pixels, as the importance map has, got 9 x 9");
  CHECK(conv({x.data(), 1, 8, 8, 2}, {y.data(), 1, 8, 8, 4}, state, pm::workspace(memory)).code() == pm::errc::shape);
  CHECK(conv({x.data(), 1, 8, 8, 3}, {y.data(), 1, 8, 8, 4}, state, {}).code() == pm::errc::short_buffer);
  const std::vector<std::uint8_t> larger(81);
  const auto other = pm::conv2d<pm::mac::int8, policy_type>(
      pm::layer::first_layer, {.padding = pm::same}, weights, bias, pm::epilogue::identity{}, {},
      policy::importance_map({larger.data(), 9, 9}, policy::keep_share{0.5}));
  auto foreign = other.make_state(generator(1));
  CHECK(std::string(conv({x.data(), 1, 8, 8, 3}, {y.data(), 1, 8, 8, 4}, foreign, pm::workspace(memory)).c_str()) ==
        "conv2d: expected a state for 8 x 8 pixels, as make_state() of this layer gives, got one for 9 x 9");
  CHECK(y == untouched);
  CHECK(conv({x.data(), 1, 8, 8, 3}, {y.data(), 1, 8, 8, 4}, state, pm::workspace(memory)).ok());
}
