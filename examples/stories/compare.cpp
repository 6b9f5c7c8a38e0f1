// SPDX-License-Identifier: MIT
#include "compare.hpp"
#include "examples/mlperf_tiny/progress.hpp"
#include "examples/streaming/timing.hpp"
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

/// Bytes a second of the fastest of some passes of a loop that does nothing but read.
double read_bandwidth(std::size_t bytes) {
  constexpr std::size_t streams = 4;
  const std::size_t words = std::max<std::size_t>(bytes / sizeof(std::uint64_t) / streams, 1);
  std::vector<std::uint64_t> memory(streams * words, 1);
  volatile std::uint64_t kept = 0;
  double best = 0;
  for (int trial = 0; trial < 50; ++trial) {
    constexpr int repeats = 20;
    stopwatch clock;
    for (int i = 0; i < repeats; ++i) {
      const std::uint64_t* const from = memory.data();
      std::uint64_t a = 0, b = 0, c = 0, d = 0;
      for (std::size_t k = 0; k < words; ++k) {
        a += from[k];
        b += from[words + k];
        c += from[2 * words + k];
        d += from[3 * words + k];
      }
      kept = kept + a + b + c + d;
    }
    best = std::max(best, static_cast<double>(repeats * streams * words * sizeof(std::uint64_t)) / clock.lap());
  }
  return best;
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
  row.share = row.decode * static_cast<double>(row.weight_bytes) / row.bandwidth;
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
