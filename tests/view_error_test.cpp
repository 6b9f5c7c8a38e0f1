// SPDX-License-Identifier: MIT
// Views, texts, statuses, results and buffers: the ground that everything stands on.
#include "polymac/core/buffer.hpp"
#include "polymac/core/error.hpp"
#include "polymac/core/int4.hpp"
#include "polymac/core/view.hpp"

#include "catch.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

namespace pm = polymac;

TEST_CASE("a text joins strings, characters and integers, and is cut where it is full", "[text]") {
  STATIC_REQUIRE(pm::text<40>::join("a ", -12, " b ", 7u, ' ', 'c').view() == "a -12 b 7 c");
  CHECK(pm::text<40>::join(std::numeric_limits<std::int64_t>::min()).view() == "-9223372036854775808");
  CHECK(pm::text<40>::join(std::numeric_limits<std::uint64_t>::max()).view() == "18446744073709551615");
  CHECK(pm::text<40>::join(0).view() == "0");
  const auto cut = pm::text<5>::join("abcdefgh");
  CHECK(cut.view() == "abcde");
  CHECK(std::string(cut.c_str()) == "abcde");
}

TEST_CASE("a status carries a code and a text", "[status]") {
  STATIC_REQUIRE(std::is_trivially_copyable_v<pm::status>);
  constexpr pm::status fine;
  STATIC_REQUIRE(fine.ok());
  const auto bad = pm::status::make(pm::errc::shape, "expected ", 3, ", got ", 4);
  CHECK_FALSE(bad.ok());
  CHECK_FALSE(static_cast<bool>(bad));
  CHECK(bad.code() == pm::errc::shape);
  CHECK(bad.text() == "expected 3, got 4");
  const auto long_text = pm::status::make(pm::errc::corrupt, std::string(1000, 'x'));
  CHECK(long_text.text().size() == pm::status::capacity);
}

TEST_CASE("a result holds a value or the reason why there is none", "[result]") {
  pm::result<std::unique_ptr<int>> good(std::make_unique<int>(5));
  REQUIRE(good.ok());
  CHECK(**good == 5);
  auto moved = std::move(good);
  REQUIRE(moved.ok());
  CHECK(**moved == 5);
  const pm::result<std::unique_ptr<int>> none(pm::status::make(pm::errc::unsupported, "no"));
  CHECK_FALSE(none.ok());
  CHECK(none.status().text() == "no");
}

TEST_CASE("an error is an exception with the status inside", "[status]") {
  try {
    pm::detail::raise_unless_ok(pm::status::make(pm::errc::parameter, "wrong"));
    FAIL("nothing was thrown");
  } catch (const pm::error& e) {
    CHECK(std::string(e.what()) == "wrong");
    CHECK(e.status().code() == pm::errc::parameter);
  }
  CHECK_NOTHROW(pm::detail::raise_unless_ok(pm::status{}));
}

TEST_CASE("views address rows, pixels and elements by their strides", "[view]") {
  std::array<int, 24> data{};
  for (int i = 0; i < 24; ++i) data[static_cast<std::size_t>(i)] = i;
  const pm::matrix_view m(data.data(), 3, 5, 8);
  CHECK(m.row(2) == data.data() + 16);
  CHECK(m(1, 4) == 12);
  const pm::matrix_view<const int> constant = m;
  CHECK(constant(1, 4) == 12);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<pm::matrix_view<const int>, pm::matrix_view<int>>);

  const pm::image_view image(data.data(), 1, 2, 3, 4);
  CHECK(image(0, 1, 2, 3) == 23);
  const pm::image_view<int> spread(data.data(), 2, 2, 2, 1, 3, 6, 12);
  CHECK(spread(1, 1, 1, 0) == 21);
  CHECK(pm::image_view<const int>(spread).pixel(1, 0, 1) == data.data() + 15);

  std::array<std::byte, 7> bytes{};
  CHECK(pm::workspace(bytes).size == 7);
  CHECK(pm::workspace(bytes).data == bytes.data());
}

TEST_CASE("int4 values are signed, the low nibble first, rows without gaps", "[view]") {
  const std::array<std::uint8_t, 3> packed{0x8F, 0x70, 0x05};  // -1 -8 0 7 5
  const pm::int4_matrix_view m{packed.data(), 1, 5};
  CHECK(m(0, 0) == -1);
  CHECK(m(0, 1) == -8);
  CHECK(m(0, 2) == 0);
  CHECK(m(0, 3) == 7);
  CHECK(m(0, 4) == 5);
  const pm::int4_image_view image{packed.data(), 1, 1, 2, 2};
  CHECK(image(0, 0, 1, 1) == 7);
}

TEST_CASE("a buffer owns zeros on a cache line, copies and moves", "[buffer]") {
  pm::buffer<std::int32_t> b;
  REQUIRE(b.resize(10).ok());
  CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
  for (std::size_t i = 0; i < b.size(); ++i) CHECK(b[i] == 0);
  b[3] = 7;
  const pm::buffer<std::int32_t> copy = b;
  CHECK(copy[3] == 7);
  CHECK(copy.data() != b.data());
  const std::int32_t* where = b.data();
  const pm::buffer<std::int32_t> moved = std::move(b);
  CHECK(moved.data() == where);
  pm::buffer<std::int32_t> assigned;
  assigned = copy;
  assigned = *&assigned;
  CHECK(assigned[3] == 7);

  const auto s = assigned.resize(std::numeric_limits<std::size_t>::max() / 4);
  CHECK_FALSE(s.ok());
  CHECK(assigned.size() == 0);
}

TEST_CASE("a static buffer refuses more than its extent", "[buffer]") {
  pm::buffer<float, 4> b;
  REQUIRE(b.resize(4).ok());
  CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
  const auto s = b.resize(5);
  CHECK(s.text() == "buffer: expected at most 4 elements, got 5");
  CHECK(b.size() == 4);
}
