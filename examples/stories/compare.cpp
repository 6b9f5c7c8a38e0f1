// SPDX-License-Identifier: MIT
#include "compare.hpp"
#include "bandwidth.hpp"
#include "examples/common/progress.hpp"
#include "examples/common/timing.hpp"
#include "polymac/model/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace example {

using polymac::matrix_view;
using polymac::result;
using polymac::status;
using polymac::io::tokenizer;
using polymac::model::most_likely;

namespace {

constexpr std::size_t golden_tokens = 200;

/// What a net says first, whatever it is: a token that ends the text is one of its tokens here.
status say(language_model& model, std::size_t count, std::size_t vocabulary, std::vector<std::int32_t>& said) {
  std::vector<float> logits(vocabulary);
  std::int32_t token = tokenizer::begin_of_sequence;
  model.clear();
  said.clear();
  while (said.size() < count) {
    if (const status s = model.append({&token, 1}, {logits.data(), 1, vocabulary}); !s.ok()) return s;
    const auto next = most_likely(logits);
    if (!next.ok()) return next.status();
    said.push_back(token = *next);
  }
  return {};
}

/// Mean of -log p(token) of a text, each token after the right ones.
double loss_of(std::span<const float> logits, std::span<const std::int32_t> tokens) {
  const std::size_t vocabulary = logits.size() / tokens.size();
  double sum = 0;
  for (std::size_t t = 0; t < tokens.size(); ++t) {
    const auto row = logits.subspan(t * vocabulary, vocabulary);
    const auto most = static_cast<double>(*std::max_element(row.begin(), row.end()));
    double all = 0;
    for (const float l : row) all += std::exp(static_cast<double>(l) - most);
    sum += most + std::log(all) - static_cast<double>(row[static_cast<std::size_t>(tokens[t])]);
  }
  return sum / static_cast<double>(tokens.size());
}

/// Tokens a second of prefill and of decoding the golden text.
status measure(language_model& model, std::span<const std::int32_t> input, std::size_t vocabulary, std::size_t passes,
               compared& row) {
  std::vector<float> logits(vocabulary);
  const matrix_view<float> last(logits.data(), 1, vocabulary);
  std::vector<double> prefill, decode;
  for (std::size_t pass = 0; pass <= passes; ++pass) {
    stopwatch clock;
    model.clear();
    if (const status s = model.append(input, last); !s.ok()) return s;
    const double first = clock.lap();
    model.clear();
    for (std::size_t t = 0; t < input.size(); ++t)
      if (const status s = model.append(input.subspan(t, 1), last); !s.ok()) return s;
    const double second = clock.lap();
    if (pass == 0) continue;  // warms up
    prefill.push_back(first);
    decode.push_back(second);
  }
  const auto tokens = static_cast<double>(input.size());
  row.prefill = tokens / median(prefill);
  row.decode = tokens / median(decode);
  row.bandwidth = read_bandwidth(row.weight_bytes);
  // A token reads all weights once, and what the cache holds of the tokens up to it.
  const double read = static_cast<double>(row.weight_bytes) + static_cast<double>(row.cache_bytes) * (tokens + 1) / 2;
  row.share = row.decode * read / row.bandwidth;
  return {};
}

}  // namespace

result<comparison> compare(const story& s, std::size_t passes) {
  comparison c;
  c.golden = s.golden;
  c.golden_is_given = !c.golden.empty();
  const std::size_t vocabulary = s.vocabulary.size();
  const auto list = all_arithmetics();
  for (std::size_t i = 0; i < list.size(); ++i) {
    progress_bar bar(list[i].name, list.size());
    bar.show(i);
    auto model = list[i].make(s.weights);
    if (!model.ok()) return status::make(model.status().code(), list[i].name, ": ", model.status().text());
    compared row;
    row.arithmetic = list[i].name;
    row.weight_bytes = (*model)->weight_bytes();
    row.cache_bytes = (*model)->cache_bytes_per_token();
    std::vector<std::int32_t> said;
    const std::size_t count = std::min(c.golden.empty() ? golden_tokens : c.golden.size(), (*model)->capacity());
    if (const status done = say(**model, count, vocabulary, said); !done.ok()) return done;
    if (c.golden.empty()) c.golden = said;
    while (row.equal_tokens < count && said[row.equal_tokens] == c.golden[row.equal_tokens]) ++row.equal_tokens;

    std::vector<std::int32_t> input{tokenizer::begin_of_sequence};
    input.insert(input.end(), c.golden.begin(), c.golden.begin() + static_cast<std::ptrdiff_t>(count) - 1);
    std::vector<float> logits(count * vocabulary);
    (*model)->clear();
    if (const status done = (*model)->append(input, {logits.data(), count, vocabulary}); !done.ok()) return done;
    row.loss = loss_of(logits, std::span(c.golden).first(count));
    if (const status done = measure(**model, input, vocabulary, passes, row); !done.ok()) return done;
    c.rows.push_back(row);
  }
  return c;
}

}  // namespace example
