// SPDX-License-Identifier: MIT
// policy::chacha20: the stream of the algorithm's own test vector, and the default generator of pixel_pruning.
#include "catch.hpp"

#include <polymac/adapt/sodium.hpp>
#include <polymac/sparsity.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

namespace pm = polymac;
namespace policy = polymac::policy;

static_assert(std::uniform_random_bit_generator<policy::chacha20>);

TEST_CASE("chacha20 is the stream of its key, block after block") {
  // Key 0, nonce 0 (RFC 8439, A.1 vectors 1 and 2, blocks 0 and 1): 76 b8 e0 ad a0 f1 3d 90, ... and 9f 07 e7 be 55 51
  // 38 7a.
  policy::chacha20 zero(std::uint64_t{0});
  CHECK(zero() == 0x903df1a0ade0b876u);
  for (int i = 1; i < 8; ++i) static_cast<void>(zero());
  CHECK(zero() == 0x7a385155bee7079fu);
  // What is made in one buffer goes on in the next: two keys alike, one of them asked across its end.
  std::array<std::byte, policy::chacha20::key_bytes> key{};
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = static_cast<std::byte>(i);
  policy::chacha20 a{std::span<const std::byte, policy::chacha20::key_bytes>(key)};
  std::vector<unsigned char> stream(8 * 3 * policy::chacha20::buffered), nonce(crypto_stream_chacha20_NONCEBYTES);
  crypto_stream_chacha20(stream.data(), stream.size(), nonce.data(),
                         reinterpret_cast<const unsigned char*>(key.data()));
  for (std::size_t i = 0; i < stream.size(); i += 8) {
    std::uint64_t word = 0;
    for (std::size_t b = 8; b-- > 0;) word = word << 8 | stream[i + b];
    if (a() != word) FAIL("word " << i / 8);
  }
  auto one = policy::chacha20::from_system(), other = policy::chacha20::from_system();
  CHECK(one() != other());
}

TEST_CASE("pixel_pruning draws with chacha20 unless it is told otherwise") {
  const std::vector<std::int8_t> w(2 * 16, 1);
  const std::vector<std::uint8_t> important(16);
  const auto layer = pm::linear<pm::mac::int8, policy::pixel_pruning<policy::pruning::list_compact>>(
      pm::layer::first_layer, pm::matrix_view<const std::int8_t>(w.data(), 2, 16), std::vector<int>(),
      pm::epilogue::identity{}, {}, policy::importance_map({important.data(), 4, 4}, policy::keep_share{0.5}));
  auto state = layer.make_state(policy::chacha20(7)), same = layer.make_state(policy::chacha20(7));
  const std::vector<std::int8_t> x(16, 3);
  std::vector<std::int32_t> y(2), z(2);
  std::vector<std::byte> memory(layer.workspace_bytes());
  REQUIRE(layer({x.data(), 1, 16}, {y.data(), 1, 2}, state, pm::workspace(memory)).ok());
  REQUIRE(layer({x.data(), 1, 16}, {z.data(), 1, 2}, same, pm::workspace(memory)).ok());
  CHECK(y == std::vector<std::int32_t>{24, 24});
  CHECK(y == z);
}
