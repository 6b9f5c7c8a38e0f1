// SPDX-License-Identifier: MIT
// Softmax bit for bit: int8 logits and outputs of LiteRT's reference kernel on five nets, int16 of CMSIS-NN.
#include "catch.hpp"
#include "polymac/layer/softmax.hpp"
#include "support/data.hpp"

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace {

namespace pm = polymac;

template <class T>
std::vector<T> values(const std::filesystem::path& path, std::size_t offset = 0,
                      std::size_t count = static_cast<std::size_t>(-1)) {
  const auto bytes = polymac_test::read_bytes(path);
  const std::size_t all = (bytes.size() - offset) / sizeof(T);
  std::vector<T> out(count < all ? count : all);
  std::memcpy(out.data(), bytes.data() + offset, out.size() * sizeof(T));
  return out;
}

struct net {
  const char* name;
  std::size_t rows, columns;
  float scale;  // of the logits, from the .tflite file
};

constexpr net nets[] = {{"ic_resnet8_int8", 1000, 10, 0x1.5ff4bcp-3f},
                        {"ic_resnet_large_int8", 1000, 10, 0x1.326a7p-2f},
                        {"kws_dscnn_int8", 256, 12, 0x1.28548cp-3f},
                        {"vww_mobilenet_int8", 24, 2, 0x1.df998p-7f},
                        {"sww_dscnn1d_int8", 45, 3, 0x1.48b8e4p-3f}};

}  // namespace

TEST_CASE("int8 softmax equals LiteRT's reference kernel") {
  const auto folder = polymac_test::find_data("mlperf_tiny/litert_ref");
  if (!folder) return;
  for (const net& n : nets) {
    const std::string shape = std::to_string(n.rows) + "x" + std::to_string(n.columns) + ".bin";
    const auto logits = values<std::int8_t>(*folder / (std::string(n.name) + "_logits_i8_" + shape));
    const auto golden = values<std::int8_t>(*folder / (std::string(n.name) + "_output_i8_" + shape));
    REQUIRE(logits.size() == n.rows * n.columns);
    REQUIRE(golden.size() == logits.size());
    std::vector<std::int8_t> out(logits.size());
    const pm::layer::softmax<std::int8_t> layer(pm::affine{n.scale, 0});
    REQUIRE(layer(pm::matrix_view<const std::int8_t>(logits.data(), n.rows, n.columns),
                  pm::matrix_view<std::int8_t>(out.data(), n.rows, n.columns))
                .ok());
    std::size_t mismatches = 0;
    for (std::size_t i = 0; i < out.size(); ++i) mismatches += out[i] != golden[i];
    CAPTURE(n.name);
    CHECK(mismatches == 0);
  }
}

TEST_CASE("int16 softmax equals CMSIS-NN") {
  const auto cases = polymac_test::find_data("cmsis_nn/cases.txt");
  if (!cases) return;
  std::size_t input = 0, golden = 0;
  for (const std::string& line : polymac_test::read_lines(*cases)) {
    if (line.rfind("arr softmax_s16_input i16 30 ", 0) == 0) input = std::stoul(line.substr(29));
    if (line.rfind("arr softmax_s16_output_ref i16 30 ", 0) == 0) golden = std::stoul(line.substr(34));
  }
  if (golden == 0) {
    polymac_test::report_skipped("no case softmax_s16 in " + cases->string());
    return;
  }
  const auto bin = cases->parent_path() / "cases.bin";
  const auto x = values<std::int16_t>(bin, input, 30);
  std::vector<std::int16_t> y(30);
  const pm::layer::softmax<std::int16_t> layer(pm::fixed_point::factor{1718013132, -2});
  REQUIRE(
      layer(pm::matrix_view<const std::int16_t>(x.data(), 3, 10), pm::matrix_view<std::int16_t>(y.data(), 3, 10)).ok());
  CHECK(y == values<std::int16_t>(bin, golden, 30));
}
