// SPDX-License-Identifier: MIT
// Weight files of llama2.c: made here, damaged here.
#include "catch.hpp"

#include <polymac/io/llama2c.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

using polymac::errc;
namespace llama2c = polymac::io::llama2c;

namespace {

using bytes = std::vector<std::byte>;

void put(bytes& to, std::uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) to.push_back(static_cast<std::byte>(word >> (8 * i) & 0xFFu));
}
/// width 8, hidden 6, 2 layers, 4 heads of 2, 2 key heads, 5 tokens, 7 positions; number i of the file is i, but for
/// the table of angles, which is NaN: nobody reads it.
bytes file_of(bool tied) {
  bytes file;
  for (const int field : {8, 6, 2, 4, 2, tied ? 5 : -5, 7}) put(file, static_cast<std::uint32_t>(field));
  // 5 x 8; 2 layers of 8, 64, 4 x 8, 4 x 8, 64, 8, 3 x 48; 8
  const std::size_t count = 40 + 2 * (8 + 64 + 32 + 32 + 64 + 8 + 144) + 8;
  std::uint32_t number = 0;
  const auto numbers = [&](std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) put(file, std::bit_cast<std::uint32_t>(static_cast<float>(number++)));
  };
  numbers(count);
  for (std::size_t i = 0; i < 7 * 2; ++i) put(file, 0x7FC00000);
  if (!tied) numbers(40);
  return file;
}
void set(bytes& file, std::size_t word, std::uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) file[4 * word + i] = static_cast<std::byte>(value >> (8 * i) & 0xFFu);
}
void refuse(const bytes& file, std::string_view words) {
  const auto w = llama2c::parse(file);
  INFO(w.status().text());
  CHECK_FALSE(w.ok());
  CHECK(w.status().code() == errc::corrupt);
  CHECK(w.status().text().find(words) != std::string_view::npos);
}

}  // namespace

TEST_CASE("tensors are where the format says") {
  for (const bool tied : {true, false}) {
    INFO(tied);
    auto read = llama2c::parse(file_of(tied));
    INFO(read.status().text());
    REQUIRE(read.ok());
    const polymac::model::decoder_weights w = std::move(*read);  // views stay right
    CHECK(w.shape == polymac::model::decoder_shape{8, 6, 2, 4, 2, 5, 7});
    CHECK(w.is_tied() == tied);
    CHECK(w.embedding(0, 0) == 0.0F);
    CHECK(w.embedding(4, 7) == 39.0F);
    REQUIRE(w.layers.size() == 2);
    CHECK(w.layers[0].attention_norm[0] == 40.0F);
    CHECK(w.layers[1].attention_norm[7] == 55.0F);
    CHECK(w.layers[0].query(0, 0) == 56.0F);
    CHECK(w.layers[1].query(7, 7) == 183.0F);
    CHECK(w.layers[0].key(0, 0) == 184.0F);
    CHECK(w.layers[1].key(3, 7) == 247.0F);
    CHECK(w.layers[0].value(0, 0) == 248.0F);
    CHECK(w.layers[0].output(0, 0) == 312.0F);
    CHECK(w.layers[1].feed_forward_norm[0] == 448.0F);
    CHECK(w.layers[0].gate(0, 0) == 456.0F);
    CHECK(w.layers[0].gate(1, 0) == 464.0F);
    CHECK(w.layers[0].down(0, 0) == 552.0F);
    CHECK(w.layers[0].down(1, 0) == 558.0F);
    CHECK(w.layers[0].up(0, 0) == 648.0F);
    CHECK(w.layers[1].up(5, 7) == 743.0F);
    CHECK(w.final_norm[7] == 751.0F);
    CHECK(w.classifier(0, 0) == (tied ? 0.0F : 752.0F));
    CHECK(w.classifier(4, 7) == (tied ? 39.0F : 791.0F));
  }
}

TEST_CASE("every file of another size is refused") {
  for (const bool tied : {true, false}) {
    const bytes file = file_of(tied);
    for (std::size_t size = 0; size < file.size(); size += size < 64 ? 1 : 97)
      refuse(bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)),
             size < 28 ? "header of 28" : "the file has");
    bytes longer = file;
    longer.push_back(std::byte{});
    refuse(longer, "the file has");
  }
  refuse({}, "expected a header of 28 bytes, the file has 0");
}

TEST_CASE("headers that make no decoder are refused") {
  constexpr std::array<std::string_view, 7> names{"width",     "hidden",     "layers", "heads",
                                                  "key heads", "vocabulary", "context"};
  for (std::size_t i = 0; i < 7; ++i) {
    bytes file = file_of(true);
    set(file, i, 0);
    refuse(file, names[i]);
    if (i == 5) continue;  // below 0: not tied
    set(file, i, 0xFFFFFFFF);
    refuse(file, names[i]);
    set(file, i, 0x7FFFFFFF);
    refuse(file, "expected");
  }
  bytes file = file_of(true);
  set(file, 5, 0x80000000);
  refuse(file, "vocabulary is -2147483648");
  set(file, 5, 0x7FFFFFFF);
  refuse(file, "a vocabulary of 1 to");
  file = file_of(true);
  set(file, 3, 3);  // heads
  refuse(file, "heads that divide the width");
  set(file, 3, 8);  // of size 1
  refuse(file, "even parts");
  file = file_of(true);
  set(file, 4, 3);  // key heads
  refuse(file, "key heads that divide the 4 heads, got 3");
  file = file_of(true);
  set(file, 2, 1);  // one layer less than there is
  refuse(file, "takes");
}

TEST_CASE("weights that are no numbers are refused, and named") {
  bytes file = file_of(true);
  set(file, 7, 0x7FC00000);
  refuse(file, "number 0 of token_embedding of layer 0 is NaN");
  file = file_of(true);
  set(file, 7 + 447, 0xFF800000);
  refuse(file, "number 7 of feed_forward_norm of layer 0 is infinite");
  file = file_of(true);
  set(file, 7 + 743, 0x7F800000);
  refuse(file, "number 47 of up of layer 1 is infinite");
  file = file_of(false);
  set(file, 7 + 752 + 14 + 39, 0x7FC00000);
  refuse(file, "number 39 of classifier");
}
