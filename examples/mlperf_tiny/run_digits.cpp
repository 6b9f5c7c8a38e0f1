// SPDX-License-Identifier: MIT
// The program without data: a digit network trained by this project, on digits that are drawn now.
#include "compare.hpp"
#include "digit_net.hpp"
#include "draw_digit.hpp"
#include "modes.hpp"
#include "show_digits.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

constexpr std::size_t classes = 10;
constexpr std::size_t pictures_in_line = 4;

/// The test pictures as inputs of the network, and their digits.
struct test_set {
  bytes inputs, labels;
  std::uint64_t checksum = 0;

  test_set() {
    for (int i = 0; i < digits::test_count; ++i) {
      const digits::picture p = digits::draw_digit(digits::test_seed, static_cast<std::uint64_t>(i));
      checksum = i == 0 ? digits::checksum(p) : digits::checksum(p, checksum);
      labels.push_back(static_cast<std::byte>(p.label));
      for (const std::uint8_t pixel : p.pixels) inputs.push_back(std::byte{pixel} ^ std::byte{0x80});
    }
  }
};

std::uint64_t fnv1a(std::span<const std::byte> values) {
  std::uint64_t sum = 0xCBF29CE484222325u;
  for (const std::byte b : values) sum = (sum ^ std::to_integer<std::uint64_t>(b)) * 0x100000001B3u;
  return sum;
}

/// Kept for the pictures that are shown.
std::vector<int>& answers() {
  static std::vector<int> list;
  return list;
}

void keep_answers(std::span<const std::byte> logits) {
  for (std::size_t i = 0; i + classes <= logits.size(); i += classes) {
    const auto first = logits.begin() + static_cast<std::ptrdiff_t>(i);
    const auto less = [](std::byte a, std::byte b) {
      return static_cast<std::int8_t>(a) < static_cast<std::int8_t>(b);
    };
    answers().push_back(static_cast<int>(std::max_element(first, first + classes, less) - first));
  }
}

/// The stored values are those of the first pictures in profile litert; a checksum covers all of them in both profiles.
void compare(row& r, const bytes& logits, bool classic) {
  const auto golden = std::as_bytes(std::span(&digits::golden_logits[0][0], sizeof digits::golden_logits));
  r.mismatches = 0;
  if (!classic) count_mismatches(r, std::span(logits).first(golden.size()), golden, polymac::model::element_type::int8);
  const std::uint64_t expected = classic ? digits::logits_checksum_classic : digits::logits_checksum_litert;
  if (fnv1a(logits) != expected && *r.mismatches == 0) r.mismatches = 1;  // at least; which one, a checksum cannot say
}

result<row> run(bool classic) {
  const test_set test;
  if (test.checksum != digits::test_checksum)
    return status::make(errc::corrupt, "the drawn digits are not those the network was measured on: expected checksum ",
                        digits::test_checksum, ", got ", test.checksum);
  const auto net = loaded_net::load(std::as_bytes(std::span(digits::digit_net)), classic, true);
  if (!net.ok()) return net.status();
  const auto results = net->run(test.inputs, "digit_net");
  if (!results.ok()) return results.status();
  const bytes& logits = results->outputs[0];
  if (logits.size() != classes * test.labels.size())
    return status::make(errc::shape, "expected ", classes * test.labels.size(), " logits, got ", logits.size());
  row r = make_row("digit_net", *net, test.labels.size(), *results);
  r.target = std::to_string(digits::test_correct) + " right";
  r.correct = count_correct(logits, net->outputs()[0], test.labels);
  compare(r, logits, classic);
  keep_answers(logits);
  return r;
}

/// Prints the first pictures that the network reads rightly, or wrongly.
void show(const char* title, bool right) {
  std::vector<digits::picture> pictures;
  std::vector<int> shown_answers;
  for (std::size_t i = 0; i < answers().size() && pictures.size() < pictures_in_line; ++i) {
    const digits::picture p = digits::draw_digit(digits::test_seed, i);
    if ((answers()[i] == p.label) != right) continue;
    pictures.push_back(p);
    shown_answers.push_back(answers()[i]);
  }
  if (pictures.empty()) return;
  std::printf("\n%s\n", title);
  digits::show_digits(stdout, pictures, shown_answers);
}

}  // namespace

outcome run_digits(const options& chosen) {
  outcome all;
  auto r = run(chosen.classic);
  if (r.ok())
    all.rows.push_back(std::move(*r));
  else
    complain("digit_net", r.status());
  all.failed = !r.ok();
  return all;
}

void explain_digits() {
  show("The first digits that it reads rightly, with its answers:", true);
  show("And wrongly:", false);
  std::printf(R"(
This is polymac's own small network; training/ beside the sources says how it was made. Its target is what the training
measured; its logits are compared with stored ones. Times on a shared machine cannot be compared; bench/ gives ratios.

Larger networks: download the .tflite files of MLPerf Tiny, https://github.com/mlcommons/tiny under
benchmark/training/*/trained_models, and run one on raw inputs:
  mlperf_tiny --model pretrainedResnet_quant.tflite --input images.bin --output answers.bin
or put models, inputs and references into a folder (examples/mlperf_tiny/nets.cpp has the names) and use --data DIR.
)");
}

}  // namespace example
