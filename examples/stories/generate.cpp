// SPDX-License-Identifier: MIT
#include "generate.hpp"
#include "examples/common/random.hpp"
#include "examples/common/timing.hpp"

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;
using polymac::io::tokenizer;

std::string printable(std::string_view text) {
  std::string kept;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 ? byte != 0x7F : c == '\n' || c == '\t') kept += c;
  }
  return kept;
}

result<generated> generate(language_model& model, const tokenizer& vocabulary, const request& r,
                           const std::function<void(std::string_view)>& say) {
  generated g;
  g.prompt = vocabulary.encode(r.prompt);
  g.prompt.insert(g.prompt.begin(), tokenizer::begin_of_sequence);
  // The last token is said and not read.
  if (g.prompt.size() > model.capacity() || r.tokens > model.capacity() + 1 - g.prompt.size())
    return status::make(errc::parameter, "expected a prompt and tokens of at most ", model.capacity(),
                        " together, got a prompt of ", g.prompt.size() - 1, " and ", r.tokens, " tokens");
  if (r.tokens == 0) return g;
  polymac::model::sampler choose(vocabulary.size(), r.how);
  random generator(r.seed);
  std::vector<float> logits(vocabulary.size());
  const polymac::matrix_view<float> last(logits.data(), 1, logits.size());
  model.clear();
  if (const status s = model.append(g.prompt, last); !s.ok()) return s;
  stopwatch clock;
  std::int32_t previous = g.prompt.back();
  for (;;) {
    const auto token = choose(logits, generator);
    if (!token.ok()) return token.status();
    if (*token == tokenizer::begin_of_sequence || *token == tokenizer::end_of_sequence) {
      g.ended = true;
      break;
    }
    const auto text = vocabulary.decode(previous, *token);
    if (!text.ok()) return text.status();
    g.tokens.push_back(*token);
    g.text += *text;
    say(*text);
    if (g.tokens.size() == r.tokens) break;
    if (const status s = model.append({&*token, 1}, last); !s.ok()) return s;
    previous = *token;
  }
  g.seconds = clock.lap();
  return g;
}

}  // namespace example
