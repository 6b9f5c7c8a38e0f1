// SPDX-License-Identifier: MIT
// Text as token ids and back: byte pair encoding with scores, as karpathy's llama2.c has it (tokenizer.bin, tok512.bin).
#pragma once

#include "polymac/core/error.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <numeric>
#include <queue>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

POLYMAC_BEGIN
namespace io {

/// Where a text stops being UTF-8 (RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF): the place of
/// the first byte that belongs to no character, or npos where all is well. O(bytes).
inline std::size_t find_invalid_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    const auto byte = [&](std::size_t k) {
      return i + k < text.size() ? static_cast<unsigned>(static_cast<unsigned char>(text[i + k])) : 0u;
    };
    const auto continues = [&](std::size_t k) { return (byte(k) & 0xC0u) == 0x80u; };
    const unsigned first = byte(0), second = byte(1);
    std::size_t length = 0;
    if (first < 0x80) {
      length = 1;
    } else if (first >= 0xC2 && first <= 0xDF) {
      length = continues(1) ? 2 : 0;
    } else if (first >= 0xE0 && first <= 0xEF) {
      const bool overlong = first == 0xE0 && second < 0xA0, surrogate = first == 0xED && second >= 0xA0;
      length = continues(1) && continues(2) && !overlong && !surrogate ? 3 : 0;
    } else if (first >= 0xF0 && first <= 0xF4) {
      const bool overlong = first == 0xF0 && second < 0x90, beyond = first == 0xF4 && second >= 0x90;
      length = continues(1) && continues(2) && continues(3) && !overlong && !beyond ? 4 : 0;
    }
    if (length == 0) return i;
    i += length;
  }
  return std::string_view::npos;
}

/// The tokens of a language model.
///
/// Encoding is llama2.c's: a space in front of a text that is not empty; every character that is a token becomes that
/// token, any other its bytes (tokens <0x00> to <0xFF>); then, again and again, the two neighbours that together are
/// the token of the highest score become that token, the first of several with the same score. Every byte can be
/// encoded, also those of texts that are no UTF-8, and comes back from `decode`.
class tokenizer {
 public:
  static constexpr std::int32_t unknown = 0;
  static constexpr std::int32_t begin_of_sequence = 1;
  static constexpr std::int32_t end_of_sequence = 2;

  /// From a file of `vocabulary` tokens: int32 length of the longest, then for each a float score, its length as int32,
  /// its bytes; little-endian. Nothing of the file is kept. Errors (`corrupt`): an end before the last token or bytes
  /// behind it, lengths that do not fit each other, a score that is no number, a byte that has no token.
  static result<tokenizer> parse(std::span<const std::byte> file, std::size_t vocabulary) {
    tokenizer made;
    if (status s = made.read(file, vocabulary); !s.ok()) return s;
    return made;
  }

  /// How many tokens there are.
  std::size_t size() const noexcept { return entries_.size(); }

  /// The bytes that token `id` stands for after token `previous`: a space at its begin is left out behind
  /// begin_of_sequence, where encoding has put one. Refuses ids out of range.
  result<std::string_view> decode(std::int32_t previous, std::int32_t id) const noexcept {
    if (id < 0 || static_cast<std::size_t>(id) >= size())
      return status::make(errc::parameter, "tokenizer: expected an id in [0, ", size(), "), got ", id);
    std::string_view text = piece(id);
    if (const int byte = byte_of(text); byte >= 0)
      return std::string_view(bytes_).substr(static_cast<unsigned>(byte), 1);
    if (previous == begin_of_sequence && !text.empty() && text[0] == ' ') text.remove_prefix(1);
    return text;
  }

  /// The ids of a text; begin_of_sequence and end_of_sequence are the caller's. O(n log n).
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<symbol> symbols = split(text);
    merge(symbols);
    std::vector<std::int32_t> ids;
    for (std::size_t i = 0; i < symbols.size(); i = symbols[i].next) ids.push_back(symbols[i].id);
    return ids;
  }

 private:
  struct entry {
    std::size_t begin = 0, length = 0;
    float score = 0;
  };
  /// One of a list: those that were merged away stay where they are.
  struct symbol {
    std::int32_t id = 0;
    std::size_t before = 0, next = 0;
  };
  static constexpr std::int32_t none = -1;

  tokenizer() : bytes_(256, '\0') {
    for (std::size_t i = 0; i < bytes_.size(); ++i) bytes_[i] = static_cast<char>(static_cast<unsigned char>(i));
  }

  std::string_view piece(std::int32_t id) const noexcept {
    const entry& e = entries_[static_cast<std::size_t>(id)];
    return std::string_view(text_).substr(e.begin, e.length);
  }
  /// The token of these bytes, or none; the first of several.
  std::int32_t find(std::string_view text) const noexcept {
    const auto at = std::lower_bound(by_text_.begin(), by_text_.end(), text,
                                     [&](std::int32_t id, std::string_view t) { return piece(id) < t; });
    return at != by_text_.end() && piece(*at) == text ? *at : none;
  }
  /// Of "<0x41>" 0x41; below 0 of anything else.
  static int byte_of(std::string_view text) noexcept {
    if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
    int value = 0;
    for (const char c : text.substr(3, 2)) {
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) return -1;
      value = 16 * value + digit;
    }
    return value;
  }

  status read(std::span<const std::byte> file, std::size_t vocabulary) {
    std::size_t at = 0;
    const auto word = [&] {
      std::uint32_t value = 0;
      for (unsigned i = 0; i < 4; ++i) value |= std::to_integer<std::uint32_t>(file[at + i]) << (8 * i);
      at += 4;
      return value;
    };
    const auto left = [&] { return file.size() - at; };
    if (vocabulary == 0 || vocabulary > std::size_t{1} << 24)
      return status::make(errc::parameter, "tokenizer: expected 1 to 2^24 tokens, got ", vocabulary);
    if (file.size() < 4 || left() / 8 < vocabulary)
      return status::make(errc::corrupt, "tokenizer: expected at least ", 4 + 8 * vocabulary, " bytes for ", vocabulary,
                          " tokens, got ", file.size());
    const auto longest = static_cast<std::int32_t>(word());
    if (longest < 1) return status::make(errc::corrupt, "tokenizer: expected a longest token above 0, got ", longest);
    std::size_t most = 0;
    for (std::size_t i = 0; i < vocabulary; ++i) {
      if (left() < 8) return ends_early(file.size(), i, vocabulary);
      const float score = std::bit_cast<float>(word());
      const auto length = static_cast<std::int32_t>(word());
      if (!std::isfinite(score))
        return status::make(errc::corrupt, "tokenizer: expected a finite score of token ", i, ", got ",
                            std::isnan(score) ? "NaN" : "an infinite one");
      if (length < 1 || length > longest)
        return status::make(errc::corrupt, "tokenizer: expected a length of 1 to ", longest, " bytes of token ", i,
                            ", got ", length);
      const auto size = static_cast<std::size_t>(length);
      if (left() < size) return ends_early(file.size(), i, vocabulary);
      entries_.push_back({text_.size(), size, score});
      for (std::size_t k = 0; k < size; ++k) text_.push_back(static_cast<char>(file[at + k]));
      at += size;
      most = std::max(most, size);
    }
    if (left() != 0)
      return status::make(errc::corrupt, "tokenizer: expected ", at, " bytes for ", vocabulary, " tokens, got ",
                          file.size());
    if (most != static_cast<std::size_t>(longest))
      return status::make(errc::corrupt, "tokenizer: expected a token of ", longest, " bytes, the longest has ", most);
    by_text_.resize(vocabulary);
    std::iota(by_text_.begin(), by_text_.end(), std::int32_t{0});
    std::stable_sort(by_text_.begin(), by_text_.end(),
                     [&](std::int32_t a, std::int32_t b) { return piece(a) < piece(b); });
    byte_ids_.assign(256, none);
    for (std::size_t i = vocabulary; i > 0; --i)
      if (const int byte = byte_of(piece(static_cast<std::int32_t>(i - 1))); byte >= 0)
        byte_ids_[static_cast<unsigned>(byte)] = static_cast<std::int32_t>(i - 1);
    for (std::size_t i = 0; i < 256; ++i)
      if (byte_ids_[i] == none)
        return status::make(errc::corrupt, "tokenizer: expected a token for each byte, there is none for byte ", i);
    return {};
  }
  static status ends_early(std::size_t size, std::size_t token, std::size_t vocabulary) noexcept {
    return status::make(errc::corrupt, "tokenizer: the file of ", size, " bytes ends in token ", token, " of ",
                        vocabulary);
  }

  /// Characters, and bytes of those that are no tokens.
  std::vector<symbol> split(std::string_view text) const {
    std::vector<symbol> symbols;
    const auto add = [&](std::string_view character) {
      const auto push = [&](std::int32_t id) {
        symbols.push_back({id, symbols.size() - 1, symbols.size() + 1});  // the first one's `before` is not read
      };
      if (const std::int32_t id = find(character); id != none) return push(id);
      for (const char c : character) push(byte_ids_[static_cast<unsigned char>(c)]);
    };
    if (!text.empty()) add(" ");
    for (std::size_t i = 0; i < text.size();) {
      // A byte and the bytes that continue it, four at most: whole characters where it is UTF-8.
      std::size_t end = i + 1;
      while (end < text.size() && end - i < 4 && (static_cast<unsigned char>(text[end]) & 0xC0u) == 0x80u) ++end;
      add(text.substr(i, end - i));
      i = end;
    }
    return symbols;
  }

  /// Two neighbours that are a token together.
  struct pair {
    float score;
    std::size_t left;
    std::int32_t left_id, right_id, id;
    /// The best one is the greatest.
    friend bool operator<(const pair& a, const pair& b) noexcept {
      return a.score < b.score || (a.score == b.score && a.left > b.left);
    }
  };
  void merge(std::vector<symbol>& symbols) const {
    const std::size_t end = symbols.size();
    std::priority_queue<pair> pairs;
    std::string together;
    const auto consider = [&](std::size_t left) {
      const std::size_t right = symbols[left].next;
      if (right >= end) return;
      together = piece(symbols[left].id);
      together += piece(symbols[right].id);
      const std::int32_t id = find(together);
      if (id != none)
        pairs.push({entries_[static_cast<std::size_t>(id)].score, left, symbols[left].id, symbols[right].id, id});
    };
    for (std::size_t i = 0; i + 1 < end; ++i) consider(i);
    while (!pairs.empty()) {
      const pair best = pairs.top();
      pairs.pop();
      symbol& left = symbols[best.left];
      // One of them may have become something else, or nothing, meanwhile.
      if (left.id != best.left_id || left.next >= end || symbols[left.next].id != best.right_id) continue;
      symbol& right = symbols[left.next];
      left.id = best.id;
      left.next = right.next;
      right.id = none;
      if (left.next < end) symbols[left.next].before = best.left;
      if (best.left > 0) consider(left.before);
      consider(best.left);
    }
  }

  std::string text_, bytes_;
  std::vector<entry> entries_;
  std::vector<std::int32_t> by_text_, byte_ids_;
};

}  // namespace io
POLYMAC_END
