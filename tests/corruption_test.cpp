// SPDX-License-Identifier: MIT
// Damaged .tflite files: 10,000 seeded changes of a few bytes each. Whatever comes, the reader answers with a graph or
// a status, reads only the file, and takes no more memory than a small multiple of it. Also run with the sanitizers.
#include "catch.hpp"
#include "polymac/io/tflite.hpp"
#include "support/data.hpp"
#include "support/random.hpp"
#include "support/tflite_builder.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace {

using bytes = std::vector<std::byte>;

struct outcome {
  std::size_t accepted = 0;
  std::size_t refused = 0;
  std::size_t without_reason = 0;
  std::size_t outside = 0;  // graphs whose constants or lists do not fit the file
};

// Reads `file` from a heap block of exactly its size, so that the address sanitizer sees every byte too many.
void try_file(const bytes& file, outcome& sum) {
  const auto exact = std::make_unique<std::byte[]>(file.size());
  std::memcpy(exact.get(), file.data(), file.size());
  const std::span<const std::byte> view(exact.get(), file.size());
  const auto parsed = polymac::io::tflite::parse(view);
  if (!parsed.ok()) {
    ++sum.refused;
    sum.without_reason += parsed.status().text().size() < 20;
    return;
  }
  ++sum.accepted;
  std::size_t scales = 0;
  for (const auto& t : parsed->tensors) {
    scales += t.quantized.scales.size();
    if (!t.is_constant()) continue;
    const bool inside = t.data.data() >= view.data() && t.data.data() + t.data.size() <= view.data() + view.size();
    const bool sized = t.data.size() == polymac::model::bytes_of(t.type, t.shape.elements());
    sum.outside += !inside || !sized;
    std::uint64_t touched = 0;  // reads every byte of every constant
    for (const std::byte b : t.data) touched += std::to_integer<std::uint64_t>(b);
    sum.outside += touched > 255 * t.data.size();
  }
  sum.outside += scales > 8 * file.size() + 65536 || !polymac::model::validate(*parsed).ok();
}

// One to eight changes: a byte set, a bit flipped, or a word set to a value that hurts.
bytes damaged(const bytes& file, polymac_test::random_source& random, std::size_t reach) {
  bytes copy = file;
  const auto place = [&](std::size_t width) {
    return static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(reach - width)));
  };
  const auto changes = random.integer(1, 8);
  for (std::int64_t i = 0; i < changes; ++i) {
    switch (random.integer(0, 3)) {
      case 0:
        copy[place(1)] = static_cast<std::byte>(random.integer(0, 255));
        break;
      case 1:
        copy[place(1)] ^= static_cast<std::byte>(1 << random.integer(0, 7));
        break;
      default: {
        constexpr std::uint32_t values[] = {0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0x80000000, 0x7FC00000, 0x10000, 64};
        const std::uint32_t value = values[random.integer(0, 7)];
        std::memcpy(copy.data() + place(4), &value, 4);
        break;
      }
    }
  }
  return copy;
}

// The models that are damaged: those built here, and the real ones where the data folder is.
std::vector<bytes> models() {
  using namespace polymac_test;
  std::vector<bytes> files{write_tflite(tflite_residual_model()), write_tflite(tflite_float_model()),
                           write_tflite(tflite_classifier_model())};
  const std::filesystem::path folder = data_folder() / "mlperf_tiny";
  for (const char* name : {"kws_dscnn_int8", "sww_dscnn1d_int8", "ic_resnet8_int8"}) {
    const auto path = folder / (std::string(name) + ".tflite");
    if (std::filesystem::exists(path)) files.push_back(read_bytes(path));
  }
  return files;
}

}  // namespace

TEST_CASE("10,000 damaged files are answered with a graph or a reason", "[tflite]") {
  INFO(polymac_test::seed_note());
  const std::vector<bytes> files = models();
  polymac_test::random_source random(4711);
  outcome sum;
  for (std::size_t i = 0; i < 10000; ++i) {
    const bytes& file = files[i % files.size()];
    try_file(damaged(file, random, file.size()), sum);
  }
  CHECK(sum.without_reason == 0);
  CHECK(sum.outside == 0);
  CHECK(sum.accepted + sum.refused == 10000);
  // Damage of weights is still a model; damage of tables is mostly found. Both must have been met, or this means
  // little.
  CHECK(sum.accepted > 500);
  CHECK(sum.refused > 2500);
}

TEST_CASE("Damage of the tables alone is answered as well", "[tflite]") {
  INFO(polymac_test::seed_note());
  polymac_test::random_source random(4712);
  outcome sum;
  const bytes file = polymac_test::write_tflite(polymac_test::tflite_residual_model());
  for (std::size_t at = 0; at < file.size(); ++at) {  // each bit of each byte, and each byte at its extremes
    for (int change = 0; change < 11; ++change) {
      bytes copy = file;
      copy[at] = change < 8 ? copy[at] ^ static_cast<std::byte>(1 << change)
                            : std::byte(change == 8   ? 0
                                        : change == 9 ? 127
                                                      : 255);
      try_file(copy, sum);
    }
  }
  CHECK(sum.without_reason == 0);
  CHECK(sum.outside == 0);
  CHECK(sum.refused > file.size());
}

TEST_CASE("Tables that share one long vector cost no more than a few files", "[tflite]") {
  // Every tensor's scales point to the same 100,000 floats: 400 MB if each tensor copied them.
  namespace s = polymac::io::tflite::schema;
  using table_offset = flatbuffers::Offset<flatbuffers::Table>;
  flatbuffers::FlatBufferBuilder b;
  const auto scales = b.CreateVector(std::vector<float>(100000, 1.0F));
  const auto shape = b.CreateVector(std::vector<std::int32_t>{100000});
  auto start = b.StartTable();
  b.AddOffset(s::quantization::scale.slot, scales);
  const table_offset quantization(b.EndTable(start));
  start = b.StartTable();
  b.AddOffset(s::tensor::shape.slot, shape);
  b.AddElement<std::int8_t>(s::tensor::type.slot, 9, 0);
  b.AddOffset(s::tensor::quantization.slot, quantization);
  const table_offset tensor(b.EndTable(start));
  const std::vector<table_offset> thousand(1000, tensor);
  const auto tensors = b.CreateVector(thousand);
  start = b.StartTable();
  b.AddOffset(s::subgraph::tensors.slot, tensors);
  const std::vector<table_offset> graphs{table_offset(b.EndTable(start))};
  const auto subgraphs = b.CreateVector(graphs);
  start = b.StartTable();
  b.AddElement<std::uint32_t>(s::model_table::version.slot, 3, 0);
  b.AddOffset(s::model_table::subgraphs.slot, subgraphs);
  b.Finish(table_offset(b.EndTable(start)), "TFL3");
  const auto* begin = reinterpret_cast<const std::byte*>(b.GetBufferPointer());
  const auto parsed = polymac::io::tflite::parse({begin, b.GetSize()});
  REQUIRE(!parsed.ok());
  INFO(parsed.status().text());
  REQUIRE(parsed.status().text().find("read more than 8 times its size") != std::string_view::npos);
}
