// SPDX-License-Identifier: MIT
// The main example's digit network without the example around it: drawn pictures, a model in memory, stored results.
#include "catch.hpp"
#include "examples/mlperf_tiny/build_network.hpp"
#include "examples/mlperf_tiny/digit_net.hpp"
#include "examples/mlperf_tiny/draw_digit.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "polymac/model/network.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace {

namespace model = polymac::model;

constexpr std::size_t pixels = digits::side * digits::side;
constexpr std::size_t classes = 10;
using ten = std::array<std::int8_t, classes>;

// What the network says about all test pictures.
struct answers {
  std::vector<ten> logits;
  std::vector<int> labels;
  std::uint64_t pictures = 0;  // checksum
  std::size_t softmax_agrees = 0;
  std::uint64_t macs = 0;

  std::size_t correct() const {
    std::size_t n = 0;
    for (std::size_t i = 0; i < logits.size(); ++i)
      n += std::max_element(logits[i].begin(), logits[i].end()) - logits[i].begin() == labels[i];
    return n;
  }
  // FNV-1a over the bytes of all logits.
  std::uint64_t checksum() const {
    std::uint64_t sum = 0xCBF29CE484222325u;
    for (const ten& t : logits)
      for (const std::int8_t value : t) sum = (sum ^ static_cast<std::uint8_t>(value)) * 0x100000001B3u;
    return sum;
  }
};

answers run(model::rounding_profile rounding) {
  auto graph = example::read_graph(std::as_bytes(std::span(digits::digit_net)));
  REQUIRE(graph.ok());
  const model::operation& last = graph->operations.back();
  REQUIRE(last.kind == model::operation_kind::softmax);
  graph->outputs = {last.inputs[0], last.outputs[0]};
  auto network = example::build_network(*graph, {rounding});
  INFO(network.status().c_str());
  REQUIRE(network.ok());
  REQUIRE(network->inputs().size() == 1);
  REQUIRE(network->inputs()[0].bytes == pixels);

  answers all;
  all.macs = network->macs();
  std::vector<std::byte> arena(network->arena_bytes() + network->arena_alignment);
  std::array<std::int8_t, pixels> input{};
  ten logits{}, probabilities{};
  const std::span<const std::byte> inputs[] = {std::as_bytes(std::span(input))};
  const std::span<std::byte> outputs[] = {std::as_writable_bytes(std::span(logits)),
                                          std::as_writable_bytes(std::span(probabilities))};
  for (int i = 0; i < digits::test_count; ++i) {
    const digits::picture p = digits::draw_digit(digits::test_seed, static_cast<std::uint64_t>(i));
    all.pictures = i == 0 ? digits::checksum(p) : digits::checksum(p, all.pictures);
    for (std::size_t k = 0; k < pixels; ++k) input[k] = static_cast<std::int8_t>(p.pixels[k] - 128);
    const polymac::status s = network->run(std::span<const std::span<const std::byte>>(inputs),
                                           std::span<const std::span<std::byte>>(outputs), polymac::workspace(arena));
    if (!s.ok()) FAIL(s.c_str());
    all.logits.push_back(logits);
    all.labels.push_back(p.label);
    // Softmax keeps the order: the answer has the largest probability, too.
    const auto answer = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const std::int8_t most = *std::max_element(probabilities.begin(), probabilities.end());
    all.softmax_agrees += probabilities[static_cast<std::size_t>(answer)] == most;
  }
  return all;
}

}  // namespace

TEST_CASE("The digit network gives its stored logits in the profile litert", "[digits]") {
  const answers all = run(model::rounding_profile::litert);
  CHECK(all.pictures == digits::test_checksum);
  CHECK(all.macs == digits::net_macs);
  CHECK(all.correct() == static_cast<std::size_t>(digits::test_correct));
  CHECK(all.softmax_agrees == all.logits.size());
  for (std::size_t i = 0; i < std::size(digits::golden_logits); ++i) {
    INFO("picture " << i);
    CHECK(std::equal(all.logits[i].begin(), all.logits[i].end(), digits::golden_logits[i]));
  }
  CHECK(all.checksum() == digits::logits_checksum_litert);
}

TEST_CASE("The digit network gives its stored checksum in the profile classic", "[digits]") {
  const answers all = run(model::rounding_profile::classic);
  CHECK(all.checksum() == digits::logits_checksum_classic);
  CHECK(all.softmax_agrees == all.logits.size());
}
