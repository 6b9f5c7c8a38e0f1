// SPDX-License-Identifier: MIT
// Tokens of a small vocabulary that is made here, merges in the order of their scores, every byte there and back, and
// damaged files.
#include "catch.hpp"
#include "support/random.hpp"

#include <polymac/io/tokenizer.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using polymac::errc;
using polymac::io::find_invalid_utf8;
using polymac::io::tokenizer;

namespace {

using bytes = std::vector<std::byte>;
using ids = std::vector<std::int32_t>;

struct token {
  std::string text;
  float score = 0;
};

void put(bytes& to, std::uint32_t word) {
  for (unsigned i = 0; i < 4; ++i) to.push_back(static_cast<std::byte>(word >> (8 * i) & 0xFFu));
}
bytes file_of(const std::vector<token>& tokens) {
  bytes file;
  std::size_t longest = 0;
  for (const token& t : tokens) longest = std::max(longest, t.text.size());
  put(file, static_cast<std::uint32_t>(longest));
  for (const token& t : tokens) {
    put(file, std::bit_cast<std::uint32_t>(t.score));
    put(file, static_cast<std::uint32_t>(t.text.size()));
    for (const char c : t.text) file.push_back(static_cast<std::byte>(c));
  }
  return file;
}
/// <unk>, <s>, </s>, the bytes, and then `more`.
std::vector<token> vocabulary(const std::vector<token>& more) {
  std::vector<token> tokens{{"<unk>", 0}, {"\n<s>\n", 0}, {"\n</s>\n", 0}};
  constexpr std::string_view digits = "0123456789ABCDEF";
  for (std::size_t b = 0; b < 256; ++b)
    tokens.push_back({std::string("<0x") + digits[b / 16] + digits[b % 16] + '>', 0});
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}
constexpr std::int32_t first = 259;  ///< id of the first of `more`

tokenizer made(const std::vector<token>& tokens) {
  auto t = tokenizer::parse(file_of(tokens), tokens.size());
  INFO(t.status().text());
  REQUIRE(t.ok());
  return std::move(*t);
}
std::string decoded(const tokenizer& t, const ids& of) {
  std::string text;
  std::int32_t previous = tokenizer::begin_of_sequence;
  for (const std::int32_t id : of) {
    const auto piece = t.decode(previous, id);
    REQUIRE(piece.ok());
    text += *piece;
    previous = id;
  }
  return text;
}

/// llama2.c's own way: the best pair of all, again and again.
ids merged_slowly(const std::vector<token>& tokens, ids of) {
  for (;;) {
    std::size_t best = of.size();
    std::int32_t best_id = 0;
    for (std::size_t i = 0; i + 1 < of.size(); ++i) {
      const std::string together =
          tokens[static_cast<std::size_t>(of[i])].text + tokens[static_cast<std::size_t>(of[i + 1])].text;
      for (std::size_t id = 0; id < tokens.size(); ++id)
        if (tokens[id].text == together &&
            (best == of.size() || tokens[id].score > tokens[static_cast<std::size_t>(best_id)].score)) {
          best = i;
          best_id = static_cast<std::int32_t>(id);
        }
    }
    if (best == of.size()) return of;
    of[best] = best_id;
    of.erase(of.begin() + static_cast<std::ptrdiff_t>(best) + 1);
  }
}

}  // namespace

TEST_CASE("neighbours are merged in the order of scores, the first of equal ones first") {
  const auto tokens = vocabulary({{" ", -1}, {"a", -2}, {"b", -3}, {"ab", -9}, {"ba", -5}, {"aa", -7}, {" ab", -4}});
  const tokenizer t = made(tokens);
  CHECK(t.size() == tokens.size());
  CHECK(t.encode("").empty());
  // "ba" is better than "ab"; "a" is left alone.
  CHECK(t.encode("aba") == ids{first, first + 1, first + 4});
  // "ab" first, for there is no better pair; then with the space in front.
  CHECK(t.encode("ab") == ids{first + 6});
  // Of two that overlap, the first one.
  CHECK(t.encode("aaa") == ids{first, first + 5, first + 1});
  CHECK(t.encode("aaaa") == ids{first, first + 5, first + 5});
}

TEST_CASE("merging is that of the loop over all pairs") {
  const auto tokens = vocabulary({{" ", -1},
                                  {"a", -2},
                                  {"b", -3},
                                  {"c", -4},
                                  {"ab", -9},
                                  {"bc", -5},
                                  {"ca", -7},
                                  {"aa", -6},
                                  {"abc", 0},
                                  {"bca", -3},
                                  {"aab", -8},
                                  {"cab", -8},
                                  {"bb", -8},
                                  {" a", -1},
                                  {"cc", 2},
                                  {"ccc", 1},
                                  {"caca", 5}});
  const tokenizer t = made(tokens);
  polymac_test::random_source random(7);
  for (int round = 0; round < 300; ++round) {
    std::string text;
    ids split{first};
    const auto length = random.integer(1, 24);
    for (std::int64_t i = 0; i < length; ++i) {
      const auto letter = static_cast<std::int32_t>(random.integer(0, 2));
      text += static_cast<char>('a' + letter);
      split.push_back(first + 1 + letter);
    }
    INFO(text);
    const ids got = t.encode(text);
    CHECK(got == merged_slowly(tokens, split));
    CHECK(decoded(t, got) == text);
  }
}

TEST_CASE("every byte is encoded and decoded") {
  const tokenizer t = made(vocabulary({{" ", -1}, {"a", -2}, {"\xC3\xA9", -3}}));
  std::string all;
  for (int b = 0; b < 256; ++b) all += static_cast<char>(static_cast<unsigned char>(b));
  CHECK(decoded(t, t.encode(all)) == all);
  for (const char c : all) {
    const std::string one(1, c);
    INFO(static_cast<int>(static_cast<unsigned char>(c)));
    const ids got = t.encode(one);
    CHECK(got.size() == 2);
    CHECK(decoded(t, got) == one);
  }
  CHECK(t.encode("\xC3\xA9") == ids{first, first + 2});           // a character that is a token
  CHECK(t.encode("\xC3\xB1") == ids{first, 3 + 0xC3, 3 + 0xB1});  // and one that is none
  CHECK(t.encode(std::string(1, '\0')) == ids{first, 3});
  CHECK(decoded(t, t.encode("a\x80\x80\x80\x80\x80\xC3")) == "a\x80\x80\x80\x80\x80\xC3");
}

TEST_CASE("a space at the begin of a sequence is left out") {
  const tokenizer t = made(vocabulary({{" ", -1}, {"a", -2}, {" a", -3}}));
  CHECK(*t.decode(tokenizer::begin_of_sequence, first + 2) == "a");
  CHECK(*t.decode(first, first + 2) == " a");
  CHECK(*t.decode(first, 3 + 'x') == "x");
  CHECK(decoded(t, t.encode("a")) == "a");
}

TEST_CASE("ids out of range are refused") {
  const tokenizer t = made(vocabulary({}));
  for (const std::int32_t id : {-1, 259, std::numeric_limits<std::int32_t>::max()}) {
    const auto piece = t.decode(0, id);
    CHECK(piece.status().code() == errc::parameter);
    CHECK(piece.status().text() == "tokenizer: expected an id in [0, 259), got " + std::to_string(id));
  }
}

TEST_CASE("damaged files are refused, wherever the damage is") {
  const auto tokens = vocabulary({{" ", -1}, {"abcdefgh", -2}});
  const std::size_t count = tokens.size();
  const bytes file = file_of(tokens);
  REQUIRE(tokenizer::parse(file, count).ok());
  for (std::size_t size = 0; size < file.size(); ++size) {
    INFO(size);
    CHECK(tokenizer::parse(std::span(file).first(size), count).status().code() == errc::corrupt);
  }
  const auto refused = [&](const bytes& damaged, std::size_t n, std::string_view words) {
    const auto t = tokenizer::parse(damaged, n);
    INFO(t.status().text());
    CHECK_FALSE(t.ok());
    CHECK(t.status().text().find(words) != std::string_view::npos);
  };
  bytes damaged = file;
  damaged.push_back(std::byte{0});
  refused(damaged, count, "bytes for 261 tokens, got");
  refused(file, count - 1, "bytes for 260 tokens, got");
  refused(file, count + 1, "ends in token 261");
  refused(file, 0, "expected 1 to 2^24 tokens, got 0");
  refused(file, static_cast<std::size_t>(-1), "expected 1 to 2^24 tokens");
  const auto with_word = [&](std::size_t at, std::uint32_t word) {
    bytes d = file;
    for (unsigned i = 0; i < 4; ++i) d[at + i] = static_cast<std::byte>(word >> (8 * i) & 0xFFu);
    return d;
  };
  refused(with_word(0, 0), count, "expected a longest token above 0, got 0");
  refused(with_word(0, 0xFFFFFFFF), count, "expected a longest token above 0, got -1");
  refused(with_word(0, 9), count, "expected a token of 9 bytes, the longest has 8");
  refused(with_word(4, 0x7FC00000), count, "score of token 0, got NaN");
  refused(with_word(4, 0xFF800000), count, "score of token 0, got an infinite one");
  refused(with_word(8, 0), count, "expected a length of 1 to 8 bytes of token 0, got 0");
  refused(with_word(8, 0x80000000), count, "of token 0, got -2147483648");
  refused(with_word(8, 9), count, "of token 0, got 9");
  auto without = tokens;
  without[3 + 0x41].text = "<0xZZ>";
  refused(file_of(without), count, "expected a token for each byte, there is none for byte 65");
  // Any byte: either it is refused, or what comes out still encodes and decodes.
  for (std::size_t i = 0; i < file.size(); i += 5) {
    damaged = file;
    damaged[i] ^= std::byte{0x85};
    const auto t = tokenizer::parse(damaged, count);
    if (t.ok()) CHECK(decoded(*t, t->encode("abc def")).size() == 7);
  }
}

TEST_CASE("texts that are no UTF-8 are found") {
  constexpr auto well = std::string_view::npos;
  for (const char* text : {"", "abc", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xEE\x80\x80",
                           "\xF4\x8F\xBF\xBF", "\xC2\x80", "\xE0\xA0\x80", "\xF0\x90\x80\x80", "\xED\x9F\xBF"}) {
    INFO(text);
    CHECK(find_invalid_utf8(text) == well);
  }
  CHECK(find_invalid_utf8(std::string_view("a\0b", 3)) == well);
  for (const char* wrong :
       {"\x80", "\xC3", "\xC0\x80", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", "\xFF", "\xE2\x82", "\xE2\x28\xA1", "\xF0\x9F\x98"}) {
    INFO(wrong);
    CHECK(find_invalid_utf8(std::string("ab") + wrong) == 2);
    CHECK(find_invalid_utf8(std::string("ab") + wrong + "cd") == 2);
  }
}
