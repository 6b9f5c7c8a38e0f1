// SPDX-License-Identifier: MIT
#include "compare.hpp"
#include "examples/common/json.hpp"
#include "examples/common/table.hpp"

#include <cstdio>

namespace example {

namespace {

constexpr const char* explanation = R"(
weights      bytes that a token reads of packed weights, with their scales; panels are filled up to whole ones
cache        bytes of keys and values that a token adds, all layers
equal        tokens of the greedy text before the first that is not the golden one
loss         negative log-likelihood of a token of the golden text, each after the right ones
prefill      tokens a second of the golden text in blocks of 16
decode       the same one by one
bandwidth    share of the read bandwidth in decoding: bytes of weights and of the cache that a token reads, in its time; the
             bandwidth, in GB/s behind it, is that of a loop that reads as many bytes as there are weights
)";

}  // namespace

void print_table(const comparison& c, const story& s) {
  std::printf("%s, %zu tokens from the begin, golden: %s\n\n", s.is_noise ? "seeded weights (noise)" : "stories260K",
              c.golden.size(), c.golden_is_given ? "as published" : "what float32 says");
  std::vector<cells> lines{
      {"arithmetic", "weights", "cache", "equal", "loss", "to float32", "prefill/s", "decode/s", "bandwidth", "GB/s"}};
  for (const compared& r : c.rows)
    lines.push_back({r.arithmetic, format("%zu", r.weight_bytes), format("%zu", r.cache_bytes),
                     format("%zu", r.equal_tokens), format("%.4f", r.loss), format("%+.4f", r.loss - c.rows[0].loss),
                     format("%.0f", r.prefill), format("%.0f", r.decode), format("%.2f", r.share),
                     format("%.0f", r.bandwidth / 1e9)});
  print_lines(lines);
  std::fputs(explanation, stdout);
}

void print_json(const comparison& c, const story& s) {
  std::printf("{\"source\": \"%s\", \"golden\": \"%s\", \"tokens\": %zu, \"rows\": [",
              s.is_noise ? "noise" : "stories260K", c.golden_is_given ? "published" : "float32", c.golden.size());
  row_separator separator;
  for (const compared& r : c.rows) {
    std::printf(
        "%s  {\"arithmetic\": \"%s\", \"weight_bytes\": %zu, \"cache_bytes_per_token\": %zu, \"equal_tokens\": %zu, "
        "\"loss\": %s, \"prefill_tokens_per_second\": %.6g, \"decode_tokens_per_second\": %.6g, "
        "\"read_bandwidth\": %.6g, \"share_of_read_bandwidth\": %.4g}",
        separator.next(), r.arithmetic.c_str(), r.weight_bytes, r.cache_bytes, r.equal_tokens,
        json_number(r.loss, "%.6f").c_str(), r.prefill, r.decode, r.bandwidth, r.share);
  }
  std::fputs("\n]}\n", stdout);
}

}  // namespace example
