// SPDX-License-Identifier: MIT
#include "tasks.hpp"

#include "examples/mlperf_tiny/digit_net.hpp"
#include "examples/mlperf_tiny/draw_digit.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"

#include <cstdio>
#include <string>
#include <system_error>
#include <utility>

namespace example {

namespace fs = std::filesystem;
using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

struct entry {
  const char* name;
  const char* input_file;
  result<std::vector<float>> (*read)(const bytes& content, const fs::path& data);
  const char* reference;  ///< logits or outputs of another implementation, or null
  const char* labels;
  bool reconstructs;
};

std::vector<float> floats_of(const bytes& content) {
  std::vector<float> values(content.size() / sizeof(float));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = polymac::model::load_little_endian<float>(content.data() + i * sizeof(float));
  return values;
}

result<std::vector<float>> pixels(const bytes& content, const fs::path&) {
  std::vector<float> values;
  for (const std::byte b : content) values.push_back(static_cast<float>(std::to_integer<int>(b)));
  return values;
}

/// Codes of the int8 net, which has the scale.
result<std::vector<float>> keywords(const bytes& content, const fs::path& data) {
  const auto file = read_file(data / "mlperf_tiny/kws_dscnn_int8.tflite");
  if (!file.ok()) return file.status();
  const auto graph = read_graph(*file);
  if (!graph.ok()) return graph.status();
  const auto& q = graph->tensor(graph->inputs[0])->quantized;
  if (!q.present()) return status::make(errc::corrupt, "kws_dscnn_int8.tflite: expected an input with a scale");
  std::vector<float> values;
  for (const std::byte b : content)
    values.push_back(static_cast<float>(static_cast<std::int8_t>(b) - q.zero_point()) * q.scale());
  return values;
}

/// Five frames of 128 values in a window.
result<std::vector<float>> sounds(const bytes& content, const fs::path&) {
  constexpr std::size_t frame = 128, together = 5;
  const std::vector<float> frames = floats_of(content);
  std::vector<float> values;
  for (std::size_t first = 0; first + together * frame <= frames.size(); first += frame)
    for (std::size_t i = 0; i < together * frame; ++i) values.push_back(frames[first + i]);
  return values;
}

constexpr entry entries[] = {
    {"ic_resnet8_fp32", "cifar10/cifar10_test1000_u8_nhwc.bin", pixels,
     "mlperf_tiny/litert_ref/ic_resnet8_fp32_logits_f32_1000x10.bin", "cifar10/cifar10_test1000_labels_u8.bin", false},
    // Its reference quantises activations at run time, so that it is another net than ours.
    {"kws_dscnn_fp32", "mlperf_tiny/litert_ref/kws_dscnn_int8_input_i8_256x49x10x1.bin", keywords, nullptr, nullptr,
     false},
    {"ad_autoencoder_fp32", "mlperf_tiny/ad_normal_id_01_00000000_logmel_f32_200x128.bin", sounds,
     "mlperf_tiny/litert_ref/ad_autoencoder_fp32_output_f32_196x640.bin", nullptr, true}};

result<task> make(const entry& e, const fs::path& data) {
  auto file = read_file(data / "mlperf_tiny" / (std::string(e.name) + ".tflite"));
  if (!file.ok()) return file.status();
  auto net = float_net::load(std::move(*file));
  if (!net.ok()) return net.status();
  const auto content = read_file(data / e.input_file);
  if (!content.ok()) return content.status();
  auto inputs = e.read(*content, data);
  if (!inputs.ok()) return inputs.status();
  task t{e.name, std::move(*net), std::move(*inputs), {}, {}, e.reconstructs};
  std::error_code ignored;
  if (e.reference != nullptr && fs::exists(data / e.reference, ignored)) {
    const auto reference = read_file(data / e.reference);
    if (!reference.ok()) return reference.status();
    t.reference = floats_of(*reference);
  }
  if (e.labels != nullptr) {
    auto labels = read_file(data / e.labels);
    if (!labels.ok()) return labels.status();
    t.labels = std::move(*labels);
  }
  return t;
}

}  // namespace

result<std::vector<task>> tasks_of(const fs::path& data) {
  std::vector<task> list;
  for (const entry& e : entries) {
    std::error_code ignored;
    if (!fs::exists(data / "mlperf_tiny" / (std::string(e.name) + ".tflite"), ignored) ||
        !fs::exists(data / e.input_file, ignored)) {
      std::fprintf(stderr, "arithmetics: not run, model or inputs are not in the data folder: %s\n", e.name);
      continue;
    }
    auto t = make(e, data);
    if (!t.ok()) return status::make(errc::corrupt, e.name, ": ", t.status().c_str());
    list.push_back(std::move(*t));
  }
  return list;
}

result<task> digits_task() {
  const auto file = std::as_bytes(std::span(digits::digit_net));
  auto net = float_net::load(bytes(file.begin(), file.end()));
  if (!net.ok()) return net.status();
  task t{"digit_net", std::move(*net), {}, {}, {}, false};
  for (int i = 0; i < digits::test_count; ++i) {
    const digits::picture p = digits::draw_digit(digits::test_seed, static_cast<std::uint64_t>(i));
    t.labels.push_back(static_cast<std::byte>(p.label));
    // As the net was trained: pixels from 0 to 1.
    for (const std::uint8_t pixel : p.pixels) t.inputs.push_back(static_cast<float>(pixel) / 255.0F);
  }
  return t;
}

}  // namespace example
