// SPDX-License-Identifier: MIT
// The nets of data/mlperf_tiny from file to answer: every logit and every final output against the reference kernels.
#include "catch.hpp"
#include "examples/mlperf_tiny/build_network.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "polymac/model/network.hpp"
#include "support/compare.hpp"
#include "support/data.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace {

namespace model = polymac::model;
using bytes = std::vector<std::byte>;
using polymac_test::read_bytes;

template <class T>
std::vector<T> values_of(const bytes& raw) {
  std::vector<T> values(raw.size() / sizeof(T));
  std::memcpy(values.data(), raw.data(), values.size() * sizeof(T));
  return values;
}
template <class T>
bytes bytes_of(const std::vector<T>& values) {
  bytes raw(values.size() * sizeof(T));
  std::memcpy(raw.data(), values.data(), raw.size());
  return raw;
}
template <class T>
std::vector<T> read_values(const std::filesystem::path& path) {
  return values_of<T>(read_bytes(path));
}

/// What a net answers to all inputs: the final outputs, and the input of the softmax where there is one.
struct answers {
  bytes output, logits;
  model::port input;
};

/// Runs `file` on consecutive input tensors. The logits come out as a second output of the same run.
answers run_net(const std::filesystem::path& file, const bytes& inputs, model::rounding_profile profile,
                std::uint64_t macs) {
  INFO(file.string());
  std::vector<std::byte> arena, raw = read_bytes(file);
  const auto g = example::read_graph(raw);
  INFO(g.status().text());
  REQUIRE(g.ok());
  model::graph extended;
  extended.tensors = g->tensors;
  extended.operations = g->operations;
  extended.inputs = g->inputs;
  extended.outputs = g->outputs;
  const bool softmax = g->operations.back().kind == model::operation_kind::softmax;
  if (softmax) extended.outputs.push_back(g->operations.back().inputs[0]);

  const auto plain = example::build_network(*g, {profile});
  INFO(plain.status().text());
  REQUIRE(plain.ok());
  CHECK(plain->macs() == macs);
  CHECK(plain->arena_bytes() >= plain->arena_lower_bound_bytes());
  CHECK(plain->arena_lower_bound_bytes() > 0);
  std::cout << file.stem().string() << ": " << plain->macs() << " MACs, arena " << plain->arena_bytes()
            << " bytes, lower bound " << plain->arena_lower_bound_bytes() << '\n';

  const auto net = example::build_network(extended, {profile});
  INFO(net.status().text());
  REQUIRE(net.ok());
  arena.resize(net->arena_bytes() + model::network::arena_alignment - 1);
  answers a;
  a.input = net->inputs()[0];
  const std::size_t count = inputs.size() / a.input.bytes, out = net->outputs()[0].bytes;
  REQUIRE(count * a.input.bytes == inputs.size());
  a.output.resize(count * out);
  const std::size_t logits = softmax ? net->outputs()[1].bytes : 0;
  a.logits.resize(count * logits);
  for (std::size_t i = 0; i < count; ++i) {
    const std::span<const std::byte> x[] = {{inputs.data() + i * a.input.bytes, a.input.bytes}};
    const std::span<std::byte> y[] = {{a.output.data() + i * out, out}, {a.logits.data() + i * logits, logits}};
    const auto s = net->run(x, std::span(y).first(softmax ? 2 : 1), polymac::workspace(arena));
    INFO(s.text());
    REQUIRE(s.ok());
  }
  return a;
}

void require_same(const bytes& actual, const std::filesystem::path& golden) {
  INFO(golden.string());
  const bytes expected = read_bytes(golden);
  REQUIRE(!expected.empty());
  REQUIRE(polymac_test::difference(values_of<std::int8_t>(expected), values_of<std::int8_t>(actual)) == "");
}

/// Floats: within 1e-4 of the reference, relative to its largest magnitude.
void require_close(const bytes& actual, const std::filesystem::path& golden) {
  INFO(golden.string());
  const auto expected = read_values<float>(golden);
  REQUIRE(!expected.empty());
  float largest = 0;
  for (const float v : expected) largest = std::max(largest, std::fabs(v));
  const auto given = values_of<float>(actual);
  float worst = 0;
  for (std::size_t i = 0; i < std::min(given.size(), expected.size()); ++i)
    worst = std::max(worst, std::fabs(given[i] - expected[i]));
  std::cout << golden.stem().string() << ": error " << worst / largest << " of the largest magnitude\n";
  REQUIRE(polymac_test::difference(expected, given, 0.0, 1e-4 * static_cast<double>(largest)) == "");
}

/// Rows whose largest value stands at the label.
std::size_t right(const bytes& logits, const bytes& labels) {
  const auto values = values_of<std::int8_t>(logits);
  const std::size_t classes = values.size() / labels.size();
  std::size_t count = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto row = values.begin() + static_cast<std::ptrdiff_t>(i * classes);
    const auto most = std::max_element(row, row + static_cast<std::ptrdiff_t>(classes));
    count += static_cast<std::size_t>(most - row) == std::to_integer<std::size_t>(labels[i]);
  }
  return count;
}

constexpr auto litert = model::rounding_profile::litert;
constexpr auto classic = model::rounding_profile::classic;

struct folders {
  std::filesystem::path nets, golden, cifar;
};
std::optional<folders> find_folders() {
  const auto nets = polymac_test::find_data("mlperf_tiny");
  const auto cifar = polymac_test::find_data("cifar10");
  if (!nets || !cifar) return std::nullopt;
  return folders{*nets, *nets / "litert_ref", *cifar};
}

}  // namespace

TEST_CASE("The int8 image classifiers answer as both references do", "[model]") {
  const auto at = find_folders();
  if (!at) return;
  bytes images = read_bytes(at->cifar / "cifar10_test1000_u8_nhwc.bin");
  const bytes labels = read_bytes(at->cifar / "cifar10_test1000_labels_u8.bin");
  for (std::byte& b : images) b ^= std::byte{0x80};  // u8 - 128
  struct classifier {
    std::string name;
    std::uint64_t macs;
    std::size_t right;
  };
  for (const classifier& c :
       {classifier{"ic_resnet8_int8", 12501632, 880}, classifier{"ic_resnet_large_int8", 76473920, 920}}) {
    const auto file = at->nets / (c.name + ".tflite");
    const answers a = run_net(file, images, litert, c.macs);
    require_same(a.logits, at->golden / (c.name + "_logits_i8_1000x10.bin"));
    require_same(a.output, at->golden / (c.name + "_output_i8_1000x10.bin"));
    const answers old = run_net(file, images, classic, c.macs);
    require_same(old.logits, at->cifar / (c.name + "_ref_logits_i8_1000x10.bin"));
    REQUIRE(right(old.logits, labels) == c.right);
    REQUIRE(right(a.logits, labels) == c.right);
    REQUIRE(a.logits != old.logits);  // or the profiles do nothing
  }
}

TEST_CASE("The int8 nets for sound and people answer as the reference does", "[model]") {
  const auto at = find_folders();
  if (!at) return;
  struct net {
    std::string name, inputs, outputs;
    std::uint64_t macs;
  };
  for (const net& n :
       {net{"kws_dscnn_int8", "256x49x10x1", "256x12", 2656768},
        net{"vww_mobilenet_int8", "24x96x96x3", "24x2", 7489664}, net{"sww_dscnn1d_int8", "45x30x1x40", "45x3", 826368},
        net{"ad_autoencoder_int8", "196x640", "196x640", 264192}}) {
    const bytes inputs = read_bytes(at->golden / (n.name + "_input_i8_" + n.inputs + ".bin"));
    const answers a = run_net(at->nets / (n.name + ".tflite"), inputs, litert, n.macs);
    require_same(a.output, at->golden / (n.name + "_output_i8_" + n.outputs + ".bin"));
    if (!a.logits.empty()) require_same(a.logits, at->golden / (n.name + "_logits_i8_" + n.outputs + ".bin"));
    if (n.name == "sww_dscnn1d_int8") {
      REQUIRE(right(a.logits, read_bytes(at->nets / "sww_labels_u8_45.bin")) == 41);
      // The goldens' inputs are the real spectrograms, quantised.
      auto real = read_values<float>(at->nets / "sww_specs_f32_45x30x40.bin");
      std::vector<std::int8_t> codes(real.size());
      const auto quantize = polymac::layer::quantize<std::int8_t>(a.input.quantized);
      REQUIRE(quantize(polymac::matrix_view<const float>(real.data(), 1, real.size()),
                       polymac::matrix_view<std::int8_t>(codes.data(), 1, codes.size()))
                  .ok());
      REQUIRE(polymac_test::difference(values_of<std::int8_t>(inputs), codes) == "");
    }
  }
}

TEST_CASE("The float nets answer as the reference does", "[model]") {
  const auto at = find_folders();
  if (!at) return;
  const auto check = [&](const std::string& name, const std::vector<float>& inputs, const std::string& shape,
                         std::uint64_t macs) {
    const answers a = run_net(at->nets / (name + ".tflite"), bytes_of(inputs), litert, macs);
    require_close(a.logits, at->golden / (name + "_logits_f32_" + shape + ".bin"));
    require_close(a.output, at->golden / (name + "_output_f32_" + shape + ".bin"));
  };
  const auto reals = [](const bytes& raw, double scale, int zero_point) {
    std::vector<float> values;
    for (const std::int8_t v : values_of<std::int8_t>(raw))
      values.push_back(static_cast<float>(scale * (v - zero_point)));
    return values;
  };
  std::vector<float> pixels;
  for (const std::byte b : read_bytes(at->cifar / "cifar10_test1000_u8_nhwc.bin"))
    pixels.push_back(static_cast<float>(std::to_integer<int>(b)));
  check("ic_resnet8_fp32", pixels, "1000x10", 12501632);

  // The keyword net has int8 weights in its convolutions: dynamic range quantisation.
  const auto keywords = read_bytes(at->golden / "kws_dscnn_int8_input_i8_256x49x10x1.bin");
  const auto file = read_bytes(at->nets / "kws_dscnn_int8.tflite");
  const auto g = example::read_graph(file);
  REQUIRE(g.ok());
  const auto& q = g->tensor(g->inputs[0])->quantized;
  check("kws_dscnn_fp32", reals(keywords, static_cast<double>(q.scale()), q.zero_point()), "256x12", 2656768);
  check("vww_mobilenet_fp32",
        reals(read_bytes(at->golden / "vww_mobilenet_int8_input_i8_24x96x96x3.bin"), 1.0 / 255, -128), "24x2", 7489664);
}

TEST_CASE("The float autoencoder finds the published score", "[model]") {
  const auto at = find_folders();
  if (!at) return;
  const auto frames = read_values<float>(at->nets / "ad_normal_id_01_00000000_logmel_f32_200x128.bin");
  REQUIRE(frames.size() == 200 * 128);
  std::vector<float> windows;
  for (std::size_t k = 0; k < 196; ++k)
    windows.insert(windows.end(), frames.begin() + static_cast<std::ptrdiff_t>(k * 128),
                   frames.begin() + static_cast<std::ptrdiff_t>(k * 128 + 640));
  const answers a = run_net(at->nets / "ad_autoencoder_fp32.tflite", bytes_of(windows), litert, 264192);
  require_close(a.output, at->golden / "ad_autoencoder_fp32_output_f32_196x640.bin");
  const auto y = values_of<float>(a.output);
  double sum = 0;
  for (std::size_t i = 0; i < y.size(); ++i) {
    const double d = static_cast<double>(windows[i]) - static_cast<double>(y[i]);
    sum += d * d;
  }
  const double score = sum / static_cast<double>(y.size());
  std::cout << "ad_autoencoder_fp32: score " << score << '\n';
  REQUIRE(std::fabs(score - 9.7071) <= 0.0005);
}
