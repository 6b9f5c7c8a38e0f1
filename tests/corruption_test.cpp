// SPDX-License-Identifier: MIT
// Damaged .tflite files: 10,000 seeded changes of a few bytes each. Whatever comes, the reader answers with a graph or
// a status, reads only the file, and takes no more memory than a small multiple of it; what can be built from the graph
// runs. Also run with the sanitizers.
#include "catch.hpp"
#include "examples/mlperf_tiny/build_network.hpp"
#include "examples/mlperf_tiny/digit_net.hpp"
#include "examples/mlperf_tiny/read_graph.hpp"
#include "polymac/model/network.hpp"
#include "support/data.hpp"
#include "support/random.hpp"
#include "support/tflite_builder.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <vector>

// ---- every allocation of the program is counted in bytes -----------------------------------------------------------

namespace {

std::size_t allocated_bytes = 0;

void* allocate(std::size_t size, std::size_t alignment) noexcept {
  allocated_bytes += size;
  void* block = nullptr;
  return ::posix_memalign(&block, alignment, size == 0 ? 1 : size) == 0 ? block : nullptr;
}
void* allocate_or_throw(std::size_t size, std::size_t alignment) {
  void* const block = allocate(size, alignment);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

void* operator new(std::size_t n) { return allocate_or_throw(n, alignof(std::max_align_t)); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, alignof(std::max_align_t)); }
void* operator new(std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new[](std::size_t n, std::align_val_t a) { return allocate_or_throw(n, static_cast<std::size_t>(a)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, alignof(std::max_align_t)); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return allocate(n, alignof(std::max_align_t)); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
  return allocate(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

// ---- what becomes of a damaged file --------------------------------------------------------------------------------

namespace {

using bytes = std::vector<std::byte>;

struct outcome {
  std::size_t accepted = 0;
  std::size_t refused = 0;
  std::size_t without_reason = 0;
  std::size_t outside = 0;  // graphs whose constants or lists do not fit the file
  std::size_t not_built = 0;
  std::size_t too_large = 0;  // to run here
  std::size_t ran = 0;
  std::size_t stopped = 0;         // with a status
  std::size_t most_allocated = 0;  // per byte of the file: parsing and building
};

/// Steps of the largest loop nests: contractions, and windows of pools as far as they lie on the image.
double work_of(const polymac::model::graph& g) {
  double work = static_cast<double>(polymac::model::multiply_accumulates(g));
  for (const auto& op : g.operations) {
    work += static_cast<double>(g.output_of(op).shape.elements());
    if (op.kind != polymac::model::operation_kind::average_pool2d &&
        op.kind != polymac::model::operation_kind::max_pool2d)
      continue;
    const auto& x = g.input_of(op, 0)->shape;
    work += static_cast<double>(g.output_of(op).shape.elements()) *
            static_cast<double>(std::min(op.window.filter.height, x[1])) *
            static_cast<double>(std::min(op.window.filter.width, x[2]));
  }
  return work;
}

/// Builds the network and runs it once, every buffer of exactly its size.
void try_network(const polymac::model::graph& g, outcome& sum) {
  const auto built = example::build_network(g);
  if (!built.ok()) {
    ++sum.not_built;
    sum.without_reason += built.status().text().size() < 20;
    return;
  }
  constexpr std::size_t limit = std::size_t{64} << 20;
  std::size_t size = built->arena_bytes();
  for (const auto& port : built->inputs()) size = size > limit ? size : size + port.bytes;
  for (const auto& port : built->outputs()) size = size > limit ? size : size + port.bytes;
  if (size > limit || work_of(g) > 1e7) {
    ++sum.too_large;
    return;
  }
  std::vector<std::unique_ptr<std::byte[]>> memory;
  const auto take = [&memory](std::size_t count) {
    memory.push_back(std::make_unique<std::byte[]>(count));
    for (std::size_t i = 0; i < count; ++i) memory.back()[i] = static_cast<std::byte>(i * 37);
    return memory.back().get();
  };
  std::vector<std::span<const std::byte>> inputs;
  std::vector<std::span<std::byte>> outputs;
  for (const auto& port : built->inputs()) inputs.emplace_back(take(port.bytes), port.bytes);
  for (const auto& port : built->outputs()) outputs.emplace_back(take(port.bytes), port.bytes);
  const std::size_t arena = built->arena_bytes() + polymac::model::network::arena_alignment - 1;
  const auto s = built->run(inputs, outputs, polymac::workspace(take(arena), arena));
  ++(s.ok() ? sum.ran : sum.stopped);
  sum.without_reason += !s.ok() && s.text().size() < 20;
}

// Reads `file` from a heap block of exactly its size, so that the address sanitizer sees every byte too many.
void try_file(const bytes& file, outcome& sum) {
  const auto exact = std::make_unique<std::byte[]>(file.size());
  std::memcpy(exact.get(), file.data(), file.size());
  const std::span<const std::byte> view(exact.get(), file.size());
  allocated_bytes = 0;
  const auto parsed = example::read_graph(view);
  sum.most_allocated = std::max(sum.most_allocated, allocated_bytes / file.size());
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
  try_network(*parsed, sum);
}

void require_orderly(const outcome& sum) {
  CAPTURE(sum.accepted, sum.refused, sum.not_built, sum.too_large, sum.ran, sum.stopped, sum.most_allocated);
  std::cout << sum.accepted << " accepted, " << sum.refused << " refused, " << sum.not_built << " not built, "
            << sum.too_large << " too large, " << sum.ran << " ran, " << sum.stopped << " stopped with a status\n";
  CHECK(sum.without_reason == 0);
  CHECK(sum.outside == 0);
  CHECK(sum.most_allocated <= 64);
  // What has been validated and built runs: a status now would have been a surprise to the caller.
  CHECK(sum.stopped == 0);
  CHECK(sum.ran > sum.accepted / 2);
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
  const auto* digits = reinterpret_cast<const std::byte*>(std::begin(digits::digit_net));
  files.emplace_back(digits, digits + sizeof digits::digit_net);
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
  require_orderly(sum);
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
  // Each bit of each byte, and each byte at its extremes; instrumented code, which is not optimised, takes every third.
#if defined(__SANITIZE_ADDRESS__)
  constexpr std::size_t step = 3;
#else
  constexpr std::size_t step = 1;
#endif
  for (std::size_t at = 0; at < file.size(); at += step) {
    for (int change = 0; change < 11; ++change) {
      bytes copy = file;
      copy[at] = change < 8 ? copy[at] ^ static_cast<std::byte>(1 << change)
                            : std::byte(change == 8   ? 0
                                        : change == 9 ? 127
                                                      : 255);
      try_file(copy, sum);
    }
  }
  require_orderly(sum);
  CHECK(sum.refused > file.size() / step);
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
  const auto parsed = example::read_graph({begin, b.GetSize()});
  REQUIRE(!parsed.ok());
  INFO(parsed.status().text());
  REQUIRE(parsed.status().text().find("read more than 8 times its size") != std::string_view::npos);
}

TEST_CASE("Absurd but legal shapes are built in little memory", "[tflite]") {
  // x [1, 8, 8, 1] -> pad to 2^30 elements -> 3 x 3 convolution to 2^31 -> max pool with a window as large.
  using namespace polymac_test;
  const std::int32_t side = 32768;
  tflite_model m;
  m.tensors = {
      {"x", tflite_int8, {1, 8, 8, 1}, {0.5F}, {0}, {}},
      {"paddings", tflite_int32, {4, 2}, {}, {}, raw_bytes<std::int32_t>({0, 0, 0, side - 8, 0, side - 8, 0, 0})},
      {"padded", tflite_int8, {1, side, side, 1}, {0.5F}, {0}, {}},
      {"weights", tflite_int8, {2, 3, 3, 1}, {0.5F}, {0}, raw_bytes(std::vector<std::int8_t>(18, 1))},
      {"conv", tflite_int8, {1, side, side, 2}, {0.5F}, {0}, {}},
      {"y", tflite_int8, {1, 1, 1, 2}, {0.5F}, {0}, {}},
  };
  m.operators = {{34, {0, 1}, {2}, 22, {}}, tflite_conv2d({2, 3, -1}, 4), tflite_pool(17, 4, 5, side, side)};
  m.inputs = {0};
  m.outputs = {5};
  const auto file = write_tflite(m);
  allocated_bytes = 0;
  const auto g = example::read_graph(file);
  INFO(g.status().text());
  REQUIRE(g.ok());
  const auto built = example::build_network(*g);
  const std::size_t taken = allocated_bytes;
  REQUIRE(taken < 65536);
  // Either a reason, or a network that says how much it needs and refuses less.
  if (built.ok()) {
    REQUIRE(built->arena_bytes() >= std::size_t{3} << 30);
    std::vector<std::byte> x(64), y(2), arena(4096);
    const auto s = built->run(std::span<const std::byte>(x), std::span<std::byte>(y), polymac::workspace(arena));
    REQUIRE(s.code() == polymac::errc::short_buffer);
  } else {
    INFO(built.status().text());
    REQUIRE(built.status().text().find("operation 2 (max_pool2d): ") == 0);
  }
}

TEST_CASE("Weights that many operations share are not packed without end", "[tflite]") {
  using namespace polymac_test;
  constexpr std::int32_t n = 512;
  tflite_model m;
  m.tensors = {{"weights", tflite_int8, {n, n}, {0.01F}, {0}, raw_bytes(std::vector<std::int8_t>(n * n, 1))}};
  for (std::int32_t i = 0; i <= 1000; ++i) {
    m.tensors.push_back({"t", tflite_int8, {1, n}, {0.5F}, {0}, {}});
    if (i > 0) m.operators.push_back(tflite_fully_connected({i, 0, -1}, i + 1));
  }
  m.inputs = {1};
  m.outputs = {1001};
  const auto file = write_tflite(m);
  allocated_bytes = 0;
  const auto g = example::read_graph(file);
  REQUIRE(g.ok());
  const auto built = example::build_network(*g);
  REQUIRE(!built.ok());
  INFO(built.status().text());
  REQUIRE(built.status().text().find("share") != std::string_view::npos);
  REQUIRE(allocated_bytes < std::size_t{200} << 20);
}
