// SPDX-License-Identifier: MIT
#include "story.hpp"
#include "examples/common/random.hpp"
#include "polymac/io/llama2c.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <system_error>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

const char* const data_text =
    R"(There is no data: a net of the same shape with seeded weights runs instead, to show the speed. Its text is noise.
The trained net: https://huggingface.co/karpathy/tinyllamas/tree/main/stories260K, two files:
  DIR/stories260K/stories260K.bin    weights, 1 MB
  DIR/stories260K/tok512.bin         vocabulary
--data DIR takes them.
)";

namespace {

status in_file(const status& s, const fs::path& path) { return status::make(s.code(), s.text(), ": ", path.string()); }

std::vector<std::int32_t> ids_of(const bytes& content) {
  std::vector<std::int32_t> ids(content.size() / 4);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    std::uint32_t word = 0;
    for (unsigned k = 0; k < 4; ++k) word |= std::to_integer<std::uint32_t>(content[4 * i + k]) << (8 * k);
    ids[i] = std::bit_cast<std::int32_t>(word);
  }
  return ids;
}

void put(bytes& to, std::uint32_t word) {
  for (unsigned k = 0; k < 4; ++k) to.push_back(static_cast<std::byte>(word >> (8 * k) & 0xFFU));
}

/// A vocabulary file: what every one begins with, then syllables, each with a space in front of it and without.
bytes syllables(std::size_t count) {
  std::vector<std::string> tokens{"<unk>", "\n<s>\n", "\n</s>\n"};
  constexpr std::string_view digits = "0123456789ABCDEF", consonants = "bdfgklmnprstvz", vowels = "aeiou";
  for (std::size_t b = 0; b < 256; ++b) tokens.push_back(std::string("<0x") + digits[b / 16] + digits[b % 16] + '>');
  tokens.emplace_back(" ");
  for (std::size_t i = 0; tokens.size() < count; ++i) {
    const std::size_t n = i / 2 % (consonants.size() * vowels.size());
    std::string text(i % 2 == 0 ? " " : "");
    text += consonants[n % consonants.size()];
    text += vowels[n / consonants.size()];
    if (i / 2 >= consonants.size() * vowels.size()) text += 'n';
    tokens.push_back(text);
  }
  bytes file;
  std::size_t longest = 0;
  for (const std::string& t : tokens) longest = std::max(longest, t.size());
  put(file, static_cast<std::uint32_t>(longest));
  float score = 0;
  for (const std::string& t : tokens) {
    put(file, std::bit_cast<std::uint32_t>(score -= 1));
    put(file, static_cast<std::uint32_t>(t.size()));
    for (const char c : t) file.push_back(static_cast<std::byte>(c));
  }
  return file;
}

}  // namespace

result<story> read_story(const fs::path& data) {
  const fs::path folder = data / "stories260K", weights = folder / "stories260K.bin", tokens = folder / "tok512.bin";
  const auto content = read_file(weights);
  if (!content.ok()) return content.status();
  auto w = polymac::io::llama2c::parse(*content);
  if (!w.ok()) return in_file(w.status(), weights);
  const auto words = read_file(tokens);
  if (!words.ok()) return words.status();
  auto v = polymac::io::tokenizer::parse(*words, w->shape.vocabulary);
  if (!v.ok()) return in_file(v.status(), tokens);
  story s(false, std::move(*w), std::move(*v));
  std::error_code ignored;
  const fs::path golden = folder / "greedy_tokens_200_i32.bin";
  if (!fs::exists(golden, ignored)) return s;
  const auto ids = read_file(golden, 800);
  if (!ids.ok()) return ids.status();
  s.golden = ids_of(*ids);
  for (const std::int32_t id : s.golden)
    if (id < 0 || static_cast<std::size_t>(id) >= s.vocabulary.size())
      return status::make(errc::corrupt, "expected ids below ", s.vocabulary.size(), ", got ", id, ": ",
                          golden.string());
  return s;
}

result<story> noise_story() {
  polymac::model::decoder_weights w;
  w.shape = {64, 172, 5, 8, 4, 512, 512};
  random draw(260);
  w.values.reserve(polymac::model::parameters(w.shape, true));
  polymac::model::for_each_tensor(
      w.shape, true, [&](const char* name, std::size_t, std::size_t rows, std::size_t columns) {
        const bool is_norm = rows == 1;
        // Spread so that vectors keep their size from layer to layer; a larger table makes some tokens likely.
        const float spread =
            std::strcmp(name, "token_embedding") == 0 ? 1.0F : std::sqrt(3.0F / static_cast<float>(columns));
        for (std::size_t i = 0; i < rows * columns; ++i)
          w.values.push_back(is_norm ? 1.0F + 0.1F * draw.symmetric() : spread * draw.symmetric());
      });
  polymac::model::set_views(w, true);
  auto v = polymac::io::tokenizer::parse(syllables(w.shape.vocabulary), w.shape.vocabulary);
  if (!v.ok()) return v.status();
  return story(true, std::move(w), std::move(*v));
}

}  // namespace example
