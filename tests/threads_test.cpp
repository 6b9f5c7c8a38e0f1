// SPDX-License-Identifier: MIT
// Layers on several threads: every executor gives the bits of one call, and the pool neither loses tasks nor hangs.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/random.hpp"

#include <polymac/adapt/threads.hpp>
#include <polymac/epilogue/clamp.hpp>
#include <polymac/epilogue/requantize.hpp>
#include <polymac/layer/conv2d.hpp>
#include <polymac/layer/depthwise_conv2d.hpp>
#include <polymac/layer/linear.hpp>
#include <polymac/mac/float32.hpp>
#include <polymac/mac/int8.hpp>
#if defined(POLYMAC_TEST_TBB)
#include <polymac/adapt/threads/tbb.hpp>
#endif

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace polymac_test;
using namespace std::chrono_literals;
namespace pm = polymac;
namespace adapt = polymac::adapt;
using adapt::division;
using adapt::task;
using adapt::thread_pool;

static_assert(adapt::Executor<thread_pool> && adapt::Executor<adapt::serial>);
static_assert(!adapt::Executor<int>);
// No exception can leave a thread: what may throw is no task.
static_assert(std::is_constructible_v<task, void (*)(std::size_t) noexcept>);
static_assert(!std::is_constructible_v<task, void (*)(std::size_t)>);

namespace {

constexpr std::size_t thread_counts[] = {1, 2, 3, 7};
constexpr division everything{0, 0};  ///< divides however little there is

/// A user's executor: new threads for every call, and the last task first.
const auto threads_of_the_user = [](std::size_t count, task t) {
  std::vector<std::thread> threads;
  for (std::size_t i = count; i-- > 0;) threads.emplace_back([t, i] { t(i); });
  for (auto& thread : threads) thread.join();
};

/// Calls body(executor, name) for one executor of each kind with that many threads.
template <class Body>
void with_executors(std::size_t threads, const Body& body) {
  thread_pool pool(threads);
  body(pool, "thread_pool");
  thread_pool sleepy(threads, 0ns);
  body(sleepy, "thread_pool that sleeps at once");
  const adapt::callable user(threads, threads_of_the_user);
  body(user, "callable");
  if (threads == 1) body(adapt::serial{}, "serial");
#if defined(_OPENMP)
  body(adapt::openmp(threads), "openmp");
#endif
#if defined(POLYMAC_TEST_TBB)
  adapt::tbb_arena arena(threads);
  body(arena, "tbb_arena");
#endif
}

/// Bytes of exactly the size asked for, at an odd address, between bytes that must not change.
class exact_workspace {
 public:
  explicit exact_workspace(std::size_t size) : bytes_(size + 2 * margin, pattern) {}
  pm::workspace get() { return {bytes_.data() + margin, bytes_.size() - 2 * margin}; }
  bool margins_untouched() const {
    return std::all_of(bytes_.begin(), bytes_.begin() + margin, [](std::byte b) { return b == pattern; }) &&
           std::all_of(bytes_.end() - margin, bytes_.end(), [](std::byte b) { return b == pattern; });
  }

 private:
  static constexpr std::ptrdiff_t margin = 65;
  static constexpr std::byte pattern{0x5A};
  std::vector<std::byte> bytes_;
};

/// Runs the layer in one call, and on every executor with every number of threads; says where bits differ.
template <class Layer, class X, class T, class View>
std::string compare(const Layer& layer, const X& x, std::vector<T>& memory, const View& y) {
  const auto fill = [&] { std::memset(memory.data(), 0x5A, memory.size() * sizeof(T)); };
  fill();
  exact_workspace one(pm::workspace_bytes(adapt::serial{}, layer));
  if (const auto s = adapt::detail::run_rows(layer, x, y, one.get(), {}); !s.ok()) return std::string(s.text());
  const std::vector<T> expected = memory;
  std::string wrong;
  for (const std::size_t threads : thread_counts)
    with_executors(threads, [&](auto&& executor, const char* name) {
      std::vector<std::size_t> sizes{pm::workspace_bytes(executor, layer)};
      if constexpr (requires { x.height; }) sizes.push_back(pm::workspace_bytes(executor, layer, {x.height, x.width}));
      for (const std::size_t size : sizes) {
        fill();
        exact_workspace ws(size);
        const auto s = pm::parallel(executor, layer, x, y, ws.get(), everything);
        const bool same = std::memcmp(memory.data(), expected.data(), memory.size() * sizeof(T)) == 0;
        if (s.ok() && same && ws.margins_untouched()) continue;
        wrong += std::string(name) + " of " + std::to_string(threads) + ": " + std::string(s.text()) +
                 (same ? "" : " other bits") + (ws.margins_untouched() ? "\n" : " wrote past its workspace\n");
      }
    });
  return wrong;
}

std::vector<std::size_t> rows_around(std::size_t alignment) {
  std::vector<std::size_t> rows{0, 1, 2, 5};
  for (const std::size_t tiles : {1u, 2u, 3u, 7u})
    for (const std::size_t more : {0u, 1u, 2u}) rows.push_back(tiles * alignment + more - 1);
  rows.push_back(15 * alignment + alignment / 2);
  return rows;
}

auto eight_bits(std::size_t columns) {
  return pm::requantize<pm::rounding::gemmlowp>(std::vector<double>(columns, 0.0021), 3) | pm::clamp(-100, 127);
}

}  // namespace

TEST_CASE("ranges cover every row once, and are cut at the alignment", "[threads]") {
  for (const std::size_t alignment : {1u, 3u, 12u, 32u})
    for (std::size_t rows = 1; rows < 200; ++rows)
      for (std::size_t parts = 1; parts <= std::min<std::size_t>((rows + alignment - 1) / alignment, 9); ++parts) {
        std::size_t next = 0, least = rows, most = 0;
        for (std::size_t p = 0; p < parts; ++p) {
          const pm::row_range r = adapt::part_of(p, parts, rows, alignment);
          const std::size_t end = std::min(r.end, rows);
          REQUIRE(r.begin == next);
          REQUIRE(end > r.begin);
          REQUIRE(r.begin % alignment == 0);
          const std::size_t tiles = (end - r.begin + alignment - 1) / alignment;
          least = std::min(least, tiles), most = std::max(most, tiles);
          next = end;
        }
        REQUIRE(next == rows);
        REQUIRE(most - least <= 1);
      }
  // Where tiles times parts would not fit.
  const std::size_t huge = std::numeric_limits<std::size_t>::max();
  CHECK(adapt::part_of(1, 2, huge, 1).begin == huge / 2);
}

TEST_CASE("small work is not divided", "[threads]") {
  constexpr division usual;
  constexpr std::size_t least = usual.min_work;
  CHECK(usual.parts(2, 1000, 1, 2 * least - 1) == 1);
  CHECK(usual.parts(2, 1000, 1, 2 * least) == 2);
  CHECK(usual.parts(8, 1000, 1, 5 * least) == 5);
  CHECK(usual.parts(8, 1000, 1, 500 * least) == 8);
  CHECK(usual.parts(8, 25, 12, 500 * least) == 3);
  CHECK(usual.parts(8, 0, 12, 0) == 1);
  CHECK(division{10, 0}.parts(2, 24, 12, 20) == 2);
  CHECK(everything.parts(7, 7, 1, 0) == 7);

  std::size_t calls = 0, tasks = 0;
  const adapt::callable counting(2, [&](std::size_t count, task t) {
    ++calls, tasks += count;
    adapt::serial::run(count, t);
  });
  const auto run = [&](std::size_t rows, std::size_t columns, std::size_t depth, const division& how) {
    calls = tasks = 0;
    const std::vector<std::int8_t> x(rows * depth), w(columns * depth);
    std::vector<std::int32_t> y(rows * columns);
    const auto layer =
        pm::linear<pm::mac::int8>(pm::matrix_view(w.data(), columns, depth), std::vector<std::int32_t>{});
    return pm::parallel(counting, layer, pm::matrix_view(x.data(), rows, depth),
                        pm::matrix_view(y.data(), rows, columns), {}, how);
  };
  REQUIRE(run(64, 64, 64, {}).ok());
  CHECK(calls == 0);
  REQUIRE(run(64, 64, 64, everything).ok());
  CHECK((calls == 1 && tasks == 2));
  REQUIRE(run(256, 256, 128, {}).ok());
  CHECK((calls == 1 && tasks == 2));
  REQUIRE(run(256, 256, 128, {.min_work = std::size_t{1} << 24}).ok());
  CHECK(calls == 0);
  // One row is divided by columns; one column of it cannot be, however much work it is.
  REQUIRE(run(1, 2048, 2048, {}).ok());
  CHECK((calls == 1 && tasks == 2));
  REQUIRE(run(1, 1, 1 << 22, {}).ok());
  CHECK(calls == 0);
}

TEST_CASE("every executor runs every task once", "[threads]") {
  for (const std::size_t threads : thread_counts)
    with_executors(threads, [threads](auto&& executor, const char* name) {
      INFO(name << " of " << threads);
      CHECK(executor.concurrency() == threads);
      for (const std::size_t count : {0u, 1u, 2u, 3u, 7u, 8u, 40u}) {
        std::vector<std::atomic<int>> runs(count);
        const auto count_run = [&](std::size_t i) noexcept { ++runs.at(i); };
        executor.run(count, count_run);
        CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& n) { return n == 1; }));
      }
    });
}

TEMPLATE_TEST_CASE("linear: the same bits for any number of threads", "[threads]", pm::mac::int8, pm::mac::float32) {
  using M = TestType;
  using activation = typename M::activation;
  POLYMAC_RANDOM(random, 1);
  constexpr std::size_t columns = 33, depth = 70;
  const auto w = uniform<typename M::weight>(random, columns * depth);
  const auto layer = pm::linear<M>(pm::matrix_view(w.data(), columns, depth),
                                   std::vector<typename pm::mac_traits<M>::sum>(columns, 5));
  for (const std::size_t rows : rows_around(pm::row_alignment(layer))) {
    const auto x = uniform<activation>(random, rows * depth);
    // Rows of y lie apart: the bytes between them must stay as they are.
    std::vector<typename pm::mac_traits<M>::sum> y(rows * (columns + 3) + 1);
    INFO(rows << " rows");
    CHECK(compare(layer, pm::matrix_view(x.data(), rows, depth), y,
                  pm::matrix_view(y.data(), rows, columns, columns + 3)) == "");
  }
}

TEMPLATE_TEST_CASE("conv2d: the same bits for any number of threads", "[threads]", pm::mac::int8, pm::mac::float32) {
  using M = TestType;
  POLYMAC_RANDOM(random, 2);
  struct kind {
    std::size_t channels, stride, out;
  };
  for (const auto [channels, stride, out] : {kind{8, 1, 19}, kind{5, 1, 19}, kind{8, 2, 70}}) {
    const auto w = uniform<typename M::weight>(random, out * 9 * channels);
    const auto layer =
        pm::conv2d<M>({.stride = {stride, stride}, .padding = pm::same}, pm::image_view(w.data(), out, 3, 3, channels),
                      std::vector<typename pm::mac_traits<M>::sum>(out, 5));
    const std::size_t a = pm::row_alignment(layer);
    const pm::extent2d sizes[] = {{1, 1}, {1, a}, {2, a}, {1, 2 * a + 1}, {7, 7}, {14, 13}, {20, 50}};
    for (const auto size : sizes)
      for (const std::size_t batch : {0u, 1u, 3u}) {
        const auto x = uniform<typename M::activation>(random, batch * size.height * size.width * channels);
        const pm::image_view<const typename M::activation> image(x.data(), batch, size.height, size.width, channels);
        const auto o = layer.output_size(size);
        const std::size_t pixels = batch * o.height * o.width;
        std::vector<typename pm::mac_traits<M>::sum> y(pixels * out + 1);
        const pm::image_view result(y.data(), batch, o.height, o.width, out);
        INFO(batch << " x " << size.height << " x " << size.width << " x " << channels << ", stride " << stride);
        CHECK(compare(layer, image, y, result) == "");
        // Every part begins where the one before ends, and none is empty.
        for (std::size_t threads = 1; threads <= 7; ++threads) {
          const adapt::plan plan = adapt::plan_of(layer, image, result, threads, everything);
          std::size_t next = 0;
          for (std::size_t p = 0; p < plan.parts; ++p) {
            const adapt::share s = adapt::part_of(layer, image, result, plan, p);
            const pm::row_range r = plan.by_columns ? pm::row_range{s.columns.begin, s.columns.end} : s.rows;
            CHECK((r.begin == next && (r.end > r.begin || pixels == 0)));
            next = r.end;
          }
          CHECK(next >= (plan.by_columns ? out : pixels));
        }
      }
  }
}

TEST_CASE("depthwise_conv2d and epilogues: the same bits for any number of threads", "[threads]") {
  POLYMAC_RANDOM(random, 3);
  constexpr std::size_t channels = 21;
  const auto w = uniform<std::int8_t>(random, 9 * channels);
  const auto layer = pm::depthwise_conv2d<pm::mac::int8>({.stride = {2, 1}, .padding = pm::same},
                                                         pm::image_view(w.data(), 1, 3, 3, channels),
                                                         std::vector<std::int32_t>(channels, -7), eight_bits(channels));
  const pm::extent2d sizes[] = {{1, 1}, {1, 2}, {5, 3}, {6, 7}, {14, 13}};
  for (const auto size : sizes)
    for (const std::size_t batch : {1u, 2u}) {
      const pm::extent2d o = layer.output_size(size);
      const auto x = uniform<std::int8_t>(random, batch * size.height * size.width * channels);
      std::vector<std::int8_t> y(batch * o.height * o.width * channels + 1);
      INFO(batch << " x " << size.height << " x " << size.width);
      CHECK(compare(layer, pm::image_view(x.data(), batch, size.height, size.width, channels), y,
                    pm::image_view(y.data(), batch, o.height, o.width, channels)) == "");
    }
}

TEST_CASE("few rows are divided by columns, each with its own scale", "[threads]") {
  POLYMAC_RANDOM(random, 4);
  constexpr std::size_t columns = 150, depth = 72;
  const auto w = uniform<std::int8_t>(random, columns * depth);
  std::vector<std::int32_t> bias(columns);
  std::vector<double> scales(columns);
  for (std::size_t c = 0; c < columns; ++c)
    bias[c] = static_cast<std::int32_t>(10 * c), scales[c] = 0.0001 * static_cast<double>(1 + c);
  const auto stages = pm::requantize<pm::rounding::gemmlowp>(scales, 3) | pm::clamp(-100, 127);
  const auto layer = pm::linear<pm::mac::int8>(pm::matrix_view(w.data(), columns, depth), bias, stages);
  const auto conv =
      pm::conv2d<pm::mac::int8>({.padding = pm::same}, pm::image_view(w.data(), columns, 3, 3, 8), bias, stages);
  for (const std::size_t rows : {1u, 5u, 17u, 40u}) {
    INFO(rows << " rows");
    const auto x = uniform<std::int8_t>(random, rows * depth);
    std::vector<std::int8_t> y(rows * columns);
    const pm::matrix_view in(x.data(), rows, depth);
    const pm::matrix_view out(y.data(), rows, columns);
    CHECK(adapt::plan_of(layer, in, out, 2, everything).by_columns);
    CHECK(compare(layer, in, y, out) == "");
    const pm::image_view<const std::int8_t> image(x.data(), 1, 1, rows, 8);
    const pm::image_view result(y.data(), 1, 1, rows, columns);
    CHECK(adapt::plan_of(conv, image, result, 2, everything).by_columns);
    CHECK(compare(conv, image, y, result) == "");
  }
  const std::size_t step = layer.column_alignment();
  CHECK(layer.part({step, 2 * step}).columns() == step);
  const auto askew = layer.part({step / 2, step}).status();
  CHECK(askew.code() == pm::errc::parameter);
  CHECK(askew.text() == "linear: expected a part of the 150 columns that is cut at multiples of " +
                            std::to_string(step) + ", got " + std::to_string(step / 2) + " to " + std::to_string(step));
  CHECK(conv.part({columns, columns + step}).status().code() == pm::errc::parameter);
}

TEST_CASE("a layer says where its rows may be cut", "[threads]") {
  struct by_eights {
    std::vector<pm::row_range>* ranges;
    static std::size_t row_alignment() { return 8; }
    pm::status operator()(const pm::matrix_view<const int>&, const pm::matrix_view<int>& y,
                          pm::row_range rows) const noexcept {
      ranges->push_back({rows.begin, std::min(rows.end, y.rows)});
      return {};
    }
  };
  std::vector<pm::row_range> ranges;
  const adapt::callable in_order(3, [](std::size_t count, task t) { adapt::serial::run(count, t); });
  // It does not say how much work it is: it is divided.
  REQUIRE(pm::parallel(in_order, by_eights{&ranges}, pm::matrix_view<const int>(nullptr, 41, 1),
                       pm::matrix_view<int>(nullptr, 41, 1))
              .ok());
  REQUIRE(ranges.size() == 3);
  CHECK((ranges[0].begin == 0 && ranges[0].end == 16));
  CHECK((ranges[1].begin == 16 && ranges[1].end == 32));
  CHECK((ranges[2].begin == 32 && ranges[2].end == 41));
}

TEST_CASE("a pool runs thousands of tiny calls, and allocates nothing in any", "[threads]") {
  for (const std::size_t threads : thread_counts)
    for (const auto patience : {0ns, 1000ns, 50000ns, std::chrono::nanoseconds::max()}) {
      INFO(threads << " threads, awake for " << patience.count() << " ns");
      thread_pool pool(threads, patience);
      std::vector<std::size_t> seen(threads);
      std::size_t mistakes = 0;
      {
        const no_allocation trap;
        for (std::size_t call = 1; call <= 10'000; ++call) {
          // Plain memory: a thread sanitizer sees whether the hand-over is one.
          const auto note = [&](std::size_t i) noexcept { seen[i] += call; };
          pool.run(threads, note);
          for (const std::size_t s : seen) mistakes += s != call * (call + 1) / 2;
        }
      }
      CHECK(mistakes == 0);
    }
}

TEST_CASE("task 0 of a pool runs on the caller's thread", "[threads]") {
  thread_pool pool(3);
  for (int call = 0; call < 100; ++call) {
    std::thread::id first;
    const auto note = [&](std::size_t i) noexcept {
      if (i == 0) first = std::this_thread::get_id();
    };
    pool.run(3, note);
    REQUIRE(first == std::this_thread::get_id());
  }
}

TEST_CASE("a pool that is at work runs a second caller's tasks on that caller's thread", "[threads]") {
  thread_pool pool(2);
  std::atomic<bool> at_work{false}, second_is_done{false};
  std::thread second([&] {
    while (!at_work) std::this_thread::yield();
    std::vector<std::thread::id> ids(5);
    const auto note = [&](std::size_t i) noexcept { ids[i] = std::this_thread::get_id(); };
    pool.run(ids.size(), note);
    for (const auto id : ids)
      if (id != std::this_thread::get_id()) return;
    second_is_done = true;
  });
  // The first call does not end before the second one has: nobody waits for anybody.
  const auto wait = [&](std::size_t) noexcept {
    at_work = true;
    for (const auto end = std::chrono::steady_clock::now() + 30s; !second_is_done;)
      if (std::chrono::steady_clock::now() > end) return;
  };
  pool.run(2, wait);
  CHECK(second_is_done);
  second.join();
}

TEST_CASE("a pool may be used by several threads at once", "[threads]") {
  POLYMAC_RANDOM(random, 4);
  constexpr std::size_t rows = 50, columns = 17, depth = 40;
  const auto w = uniform<std::int8_t>(random, columns * depth), x = uniform<std::int8_t>(random, rows * depth);
  const auto layer = pm::linear<pm::mac::int8>(pm::matrix_view(w.data(), columns, depth), std::vector<std::int32_t>{});
  const pm::matrix_view in(x.data(), rows, depth);
  std::vector<std::int32_t> expected(rows * columns);
  REQUIRE(layer(in, pm::matrix_view(expected.data(), rows, columns)).ok());
  thread_pool pool(3);
  std::atomic<int> mistakes{0};
  std::vector<std::thread> users;
  for (int u = 0; u < 3; ++u)
    users.emplace_back([&] {
      for (int call = 0; call < 1000; ++call) {
        std::vector<std::int32_t> y(rows * columns);
        const auto s = pm::parallel(pool, layer, in, pm::matrix_view(y.data(), rows, columns), {}, everything);
        if (!s.ok() || y != expected) ++mistakes;
      }
    });
  for (auto& user : users) user.join();
  CHECK(mistakes == 0);
}

TEST_CASE("tasks may use the executor that runs them", "[threads]") {
  for (const std::size_t threads : thread_counts)
    with_executors(threads, [threads](auto&& executor, const char* name) {
      INFO(name << " of " << threads);
      std::atomic<int> runs{0};
      const auto inner = [&](std::size_t) noexcept { ++runs; };
      const auto outer = [&](std::size_t) noexcept { executor.run(4, inner); };
      for (int call = 0; call < 20; ++call) executor.run(3, outer);
      CHECK(runs == 240);
    });
}

TEST_CASE("the status of the first range that fails comes back", "[threads]") {
  /// Rows from `bad` on cannot be computed; the earlier the rows, the longer it takes to find out.
  struct failing {
    std::size_t bad;
    pm::status operator()(const pm::matrix_view<const int>&, const pm::matrix_view<int>& y,
                          pm::row_range rows) const noexcept {
      const std::size_t end = std::min(rows.end, y.rows);
      if (end <= bad) return {};
      std::this_thread::sleep_for(std::chrono::milliseconds(5 * (y.rows - rows.begin)));
      return pm::status::make(pm::errc::parameter, "failing: row ", std::max(rows.begin, bad));
    }
  };
  const pm::matrix_view<const int> x(nullptr, 7, 1);
  const pm::matrix_view<int> y(nullptr, 7, 1);
  for (const std::size_t threads : thread_counts)
    with_executors(threads, [&](auto&& executor, const char* name) {
      INFO(name << " of " << threads);
      for (std::size_t bad = 0; bad < 7; bad += 3) {
        const auto s = pm::parallel(executor, failing{bad}, x, y, {}, everything);
        CHECK(s.code() == pm::errc::parameter);
        CHECK(s.text() == "failing: row " + std::to_string(bad));
      }
      CHECK(pm::parallel(executor, failing{7}, x, y, {}, everything).ok());
    });
}

TEST_CASE("mistakes at a call are told as the layer tells them", "[threads]") {
  const std::vector<std::int8_t> w(33 * 9 * 8);
  std::vector<std::int8_t> x(20 * 20 * 8);
  std::vector<std::int32_t> y(20 * 20 * 33, 77);
  thread_pool pool(3);
  const auto fully = pm::linear<pm::mac::int8>(pm::matrix_view(w.data(), 33, 72), std::vector<std::int32_t>{});
  const pm::matrix_view<const std::int8_t> narrow(x.data(), 40, 71);
  const pm::matrix_view<std::int32_t> out(y.data(), 40, 33);
  const auto direct = fully(narrow, out), divided = pm::parallel(pool, fully, narrow, out, {}, everything);
  CHECK(divided.code() == pm::errc::shape);
  CHECK(divided.text() == direct.text());

  const auto conv = pm::conv2d<pm::mac::int8>({.padding = pm::same}, pm::image_view(w.data(), 33, 3, 3, 8),
                                              std::vector<std::int32_t>{});
  const pm::image_view<const std::int8_t> image(x.data(), 1, 20, 20, 8);
  const pm::image_view<std::int32_t> result(y.data(), 1, 20, 20, 33);
  const std::size_t needed = pm::workspace_bytes(pool, conv);
  CHECK(needed >= 3 * conv.workspace_bytes());
  CHECK(pm::workspace_bytes(adapt::serial{}, conv) == conv.workspace_bytes());
  CHECK(pm::workspace_bytes(pool, fully) == 0);
  std::vector<std::byte> memory(needed);
  const auto is_short = pm::parallel(pool, conv, image, result, pm::workspace(memory.data(), needed - 1));
  CHECK(is_short.code() == pm::errc::short_buffer);
  CHECK(is_short.text() == "parallel: expected a workspace of " + std::to_string(needed) +
                               " bytes for 3 threads, got " + std::to_string(needed - 1));
  CHECK(pm::parallel(pool, conv, image, result).code() == pm::errc::short_buffer);
  CHECK(std::all_of(y.begin(), y.end(), [](std::int32_t v) { return v == 77; }));
  CHECK(pm::parallel(pool, conv, image, result, pm::workspace(memory)).ok());

  const adapt::callable forgetful(2, [](std::size_t count, task t) { adapt::serial::run(count - 1, t); });
  const auto forgotten =
      pm::parallel(forgetful, fully, pm::matrix_view<const std::int8_t>(x.data(), 40, 72), out, {}, everything);
  CHECK(forgotten.text() == "parallel: the executor was given 2 tasks and ran only 1");
}
