// SPDX-License-Identifier: MIT
// ChaCha20 of libsodium as a generator: policy::chacha20, with which policy::pixel_pruning draws its maps unless it is
// given another one. Link libsodium (CMake: polymac links nothing for its users).
//
// Cost: some 1.3 cycles for a byte on AVX2 (libsodium chooses by itself), in blocks of `buffered` words.
#pragma once

#include "polymac/core/error.hpp"
#include "polymac/policy/pixel_pruning.hpp"

#include <sodium.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>

POLYMAC_BEGIN
namespace policy {

/// A std::uniform_random_bit_generator of 64 bits: the stream of ChaCha20 (Bernstein 2008; 64-bit counter, nonce 0)
/// under a key of 32 bytes. Whoever knows the key, or has seen the memory of a generator, knows all maps: both are
/// secret. Drawing takes no branch and no address that depends on the key or on what was drawn before; every
/// `buffered`-th draw makes a block.
class chacha20 {
 public:
  using result_type = std::uint64_t;
  static constexpr std::size_t key_bytes = crypto_stream_chacha20_KEYBYTES;
  static constexpr std::size_t buffered = 128;
  static constexpr result_type min() noexcept { return 0; }
  static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }

  /// With a key of the caller, of which no two generators should have the same.
  explicit chacha20(std::span<const std::byte, key_bytes> key) noexcept {
    start_library();
    std::memcpy(key_.data(), key.data(), key_bytes);
  }
  /// The key is a number, for tests and reproductions: 64 bits are too few to keep a secret.
  explicit chacha20(std::uint64_t seed) noexcept {
    start_library();
    for (std::size_t i = 0; i < 8; ++i) key_[i] = static_cast<unsigned char>(seed >> (8 * i) & 0xFF);
  }
  /// With a key from the operating system. Throws polymac::error where it has none to give (without exceptions
  /// libsodium itself ends the program then).
  static chacha20 from_system() {
    if (!start_library())
      polymac::detail::raise_unless_ok(status::make(errc::unsupported, "chacha20: libsodium could not be initialised"));
    std::array<std::byte, key_bytes> key;
    randombytes_buf(key.data(), key.size());
    chacha20 generator{std::span<const std::byte, key_bytes>(key)};
    sodium_memzero(key.data(), key.size());
    return generator;
  }
  chacha20(const chacha20&) noexcept = default;
  chacha20& operator=(const chacha20&) noexcept = default;
  ~chacha20() {
    sodium_memzero(key_.data(), key_.size());
    sodium_memzero(words_.data(), sizeof(words_));
  }

  result_type operator()() noexcept {
    if (next_ == buffered) refill();
    return words_[next_++];
  }

 private:
  /// Without it, or where it fails, a slower implementation runs.
  static bool start_library() noexcept { return sodium_init() >= 0; }
  POLYMAC_NOINLINE void refill() noexcept {
    static constexpr std::array<unsigned char, crypto_stream_chacha20_NONCEBYTES> nonce{};
    auto* const bytes = reinterpret_cast<unsigned char*>(words_.data());
    std::memset(bytes, 0, sizeof(words_));
    static_cast<void>(crypto_stream_chacha20_xor_ic(bytes, bytes, sizeof(words_), nonce.data(), counter_, key_.data()));
    counter_ += sizeof(words_) / 64;
    next_ = 0;
  }

  std::array<unsigned char, key_bytes> key_{};
  std::array<result_type, buffered> words_{};
  std::uint64_t counter_ = 0;  ///< blocks of 64 bytes so far
  std::size_t next_ = buffered;
};

}  // namespace policy
POLYMAC_END
