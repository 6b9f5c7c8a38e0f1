// SPDX-License-Identifier: MIT
// The files of stories260K: shape and tokens. The text that the net writes is tested by the example.
#include "catch.hpp"
#include "support/data.hpp"

#include <polymac/io/llama2c.hpp>
#include <polymac/io/tokenizer.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using polymac::io::tokenizer;

TEST_CASE("the weights of stories260K") {
  const auto path = polymac_test::find_data("stories260K/stories260K.bin");
  if (!path) return;
  const auto file = polymac_test::read_bytes(*path);
  const auto w = polymac::io::llama2c::parse(file);
  INFO(std::string(w.status().text()));
  REQUIRE(w.ok());
  CHECK(w->shape == polymac::model::decoder_shape{64, 172, 5, 8, 4, 512, 512});
  CHECK(w->is_tied());
  CHECK(w->values.size() == 260032);
}

TEST_CASE("the vocabulary of stories260K") {
  const auto path = polymac_test::find_data("stories260K/tok512.bin");
  const auto golden_path = polymac_test::find_data("stories260K/greedy_tokens_200_i32.bin");
  if (!path || !golden_path) return;
  const auto t = tokenizer::parse(polymac_test::read_bytes(*path), 512);
  INFO(std::string(t.status().text()));
  REQUIRE(t.ok());
  CHECK(*t->decode(0, 259) == " t");
  CHECK(t->encode("Once upon a time") == std::vector<std::int32_t>{403, 407, 261, 378});
  const auto golden = polymac_test::read_bytes(*golden_path);
  std::string text;
  std::vector<std::int32_t> story;
  std::int32_t previous = tokenizer::begin_of_sequence;
  for (std::size_t i = 0; i + 4 <= golden.size(); i += 4) {
    story.push_back(static_cast<std::int32_t>(std::to_integer<std::uint32_t>(golden[i]) |
                                              std::to_integer<std::uint32_t>(golden[i + 1]) << 8));
    const auto piece = t->decode(previous, story.back());
    REQUIRE(piece.ok());
    text += *piece;
    previous = story.back();
  }
  CHECK(story.size() == 200);
  CHECK(text.starts_with("Once upon a time, there was a little girl named Lily."));
  CHECK(t->encode(text) == story);
  std::string every;
  for (int b = 0; b < 256; ++b) every += static_cast<char>(static_cast<unsigned char>(b));
  std::string back;
  previous = tokenizer::begin_of_sequence;
  for (const std::int32_t id : t->encode(every)) {
    back += *t->decode(previous, id);
    previous = id;
  }
  CHECK(back == every);
}
