// SPDX-License-Identifier: MIT
// The test tools themselves: a reader, a trap or a reference that is wrong would let mistakes pass.
#include "catch.hpp"
#include "support/allocation_trap.hpp"
#include "support/cases.hpp"
#include "support/guarded_buffer.hpp"
#include "support/onnx_cases.hpp"
#include "support/random.hpp"
#include "support/reference.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

using namespace polymac_test;

namespace {

/// Does `body` end its process by a signal? Runs it in a child.
template <class Body>
bool is_stopped(Body&& body) {
  std::cout.flush();
  std::fflush(stdout);
  const ::pid_t child = ::fork();
  if (child == 0) {
    // Catch2 and the sanitizers would print reports of a fault that is expected here.
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    body();
    ::_exit(0);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/// A folder with one pair of case files, removed at the end.
class case_folder {
 public:
  case_folder(const std::string& text, const std::string& bytes)
      : path_(std::filesystem::temp_directory_path() / ("polymac_cases_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
    std::ofstream(path_ / "cases.txt") << text;
    std::ofstream(path_ / "cases.bin", std::ios::binary) << bytes;
  }
  ~case_folder() { std::filesystem::remove_all(path_); }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

template <class Reader>
std::string message_of(const std::string& text) {
  const case_folder folder(text, "12345678");
  try {
    const Reader reader(folder.path());
  } catch (const case_error& e) {
    return e.what();
  }
  return "no error";
}

/// Does the message hold all pieces? Prints it where it does not.
template <class... Pieces>
bool says(const std::string& message, const Pieces&... pieces) {
  const bool all = (... && (message.find(pieces) != std::string::npos));
  if (!all) WARN(message);
  return all;
}

}  // namespace

TEST_CASE("a guarded buffer stops reads and writes on both sides") {
  for (const std::size_t count : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
    guarded_buffer<std::int8_t> last(count, placement::before_guard);
    guarded_buffer<std::int8_t> first(count, placement::after_guard);
    volatile std::int8_t* const end = last.data() + count;
    volatile std::int8_t* const begin = first.data();
    CHECK(is_stopped([&] { static_cast<void>(*end); }));
    CHECK(is_stopped([&] { *end = 1; }));
    CHECK(is_stopped([&] { static_cast<void>(begin[-1]); }));
    CHECK_FALSE(is_stopped([&] { end[-1] = begin[0]; }));
    last.make_read_only();
    CHECK(is_stopped([&] { end[-1] = 1; }));
    CHECK_FALSE(is_stopped([&] { static_cast<void>(end[-1]); }));
    last.make_writable();
    end[-1] = 5;
    CHECK(last.slack_untouched());
    CHECK(last[count - 1] == 5);
  }
  guarded_buffer<std::int8_t> spoiled(3, placement::before_guard);
  spoiled.data()[-1] = 0;
  CHECK_FALSE(spoiled.slack_untouched());
}

TEST_CASE("the allocation trap sees every form of allocation") {
  const auto allocated = [](auto&& body) {
    const std::size_t before = allocations();
    body();
    return allocations() - before;
  };
  void* volatile sink = nullptr;  // keeps the optimiser from removing pairs of new and delete
  CHECK(allocated([&] { sink = nullptr; }) == 0);
  CHECK(allocated([&] {
          int* const one = new int;
          sink = one;
          delete one;
        }) > 0);
  CHECK(allocated([&] {
          sink = ::operator new[](100);
          ::operator delete[](sink);
        }) > 0);
  CHECK(allocated([&] {
          sink = ::operator new(100, std::nothrow);
          ::operator delete(sink, std::nothrow);
        }) > 0);
  CHECK(allocated([&] {
          sink = ::operator new (128, std::align_val_t{64});
          ::operator delete (sink, std::align_val_t{64});
        }) > 0);
  CHECK(allocated([&] {
          sink = ::operator new[](128, std::align_val_t{64}, std::nothrow);
          ::operator delete[](sink, std::align_val_t{64}, std::nothrow);
        }) > 0);
  if (malloc_is_counted()) {
    CHECK(allocated([&] {
            sink = std::malloc(10);
            std::free(sink);
          }) > 0);
    CHECK(allocated([&] {
            sink = std::calloc(10, 1);
            std::free(sink);
          }) > 0);
    CHECK(allocated([&] {
            sink = std::aligned_alloc(64, 64);
            std::free(sink);
          }) > 0);
  }
  const no_allocation scope;
  sink = nullptr;
}

TEST_CASE("the kernel case reader reads what is there and names what is wrong") {
  const case_folder folder(
      "# comment\ncase a_1 ops=op_x,op_y\r\n\ndef A_1_SIZE -3\ndef A_1_DIM {  1, 2 }\n"
      "arr a_1_in i16 2 2\narr a_1_odd q7 9 0\n",
      std::string("\x01\x02\x03\x04\x05\x06\x07\xff", 8));
  const kernel_cases cases(folder.path());
  REQUIRE(cases.all().size() == 1);
  const kernel_case& c = cases.all()[0];
  CHECK(c.operators == std::vector<std::string>{"op_x", "op_y"});
  CHECK(c.get("SIZE") == -3);
  CHECK(c.get({"LENGTH", "SIZE"}) == -3);
  CHECK_THROWS_AS(c.extent("SIZE"), case_error);
  CHECK_FALSE(c.find({"WIDTH"}).has_value());
  CHECK_THROWS_AS(c.get("DIM"), case_error);
  CHECK(c.array({"input", "in"}).values<std::int16_t>() == std::vector<std::int16_t>{0x0403, 0x0605});
  CHECK_THROWS_AS(c.array({"in"}).values<std::int8_t>(), case_error);
  CHECK_THROWS_AS(c.array({"odd"}).integers(), case_error);
  CHECK_THROWS_AS(c.array({"missing"}), case_error);

  CHECK(says(message_of<kernel_cases>("def X 1\n"), ":1: expected a case line"));
  CHECK(says(message_of<kernel_cases>("case a\n"), "expected ops=..., got the end"));
  CHECK(says(message_of<kernel_cases>("case a ops=x\narr b i8 9 0\n"), ":2: ", "outside"));
  CHECK(says(message_of<kernel_cases>("case a ops=x\narr b i8 -1 0\n"), "element count", "'-1'"));
  CHECK(says(message_of<kernel_cases>("case a ops=x\narr b i64 18446744073709551615 0\n"), "outside"));
  CHECK(says(message_of<kernel_cases>("case a ops=x\narr b i64 2305843009213693952 0\n"), "outside"));
  CHECK(says(message_of<kernel_cases>("case a ops=x\nfoo\n"), "expected case, def or arr, got 'foo'"));
}

TEST_CASE("the onnx case reader reads what is there and names what is wrong") {
  const case_folder folder(
      "case g/t op=Conv opset=11 nodes=1\nnode 0 Conv in=x,-,b out=y\nattr 0 pads ints 1,-2\n"
      "attr 0 auto_pad s SAME_UPPER\nattr 0 alpha f 0.5\nin 0 x i8 2,2 0 4\nin 1 - none\n"
      "init 0 b i32 - 4 4\nout 0 y i8 0 8 0\n",
      "12345678");
  const onnx_cases cases(folder.path());
  REQUIRE(cases.all().size() == 1);
  const onnx_case& c = cases.all()[0];
  const onnx_node& n = c.nodes.at(0);
  CHECK(c.opset == 11);
  CHECK(n.integers("pads", {}) == std::vector<std::int64_t>{1, -2});
  CHECK(n.integer("group", 1) == 1);
  CHECK(n.text("auto_pad", "NOTSET") == "SAME_UPPER");
  CHECK(n.real("alpha", 1) == 0.5f);
  CHECK(c.need(n, 0).dims == std::vector<std::size_t>{2, 2});
  CHECK(c.input(n, 1) == nullptr);
  CHECK(c.need(n, 2).count() == 1);
  CHECK(c.expected.at(0).count() == 0);
  CHECK_THROWS_AS(c.need(n, 3), case_error);

  CHECK(says(message_of<onnx_cases>("node 0 Conv in=x out=y\n"), "expected a case line"));
  CHECK(says(message_of<onnx_cases>("case a op=b opset=x nodes=1\n"), "operator set"));
  CHECK(says(message_of<onnx_cases>("case a op=b opset=1 nodes=1\nattr 0 x i 1\n"), "index of a node"));
  CHECK(says(message_of<onnx_cases>("case a op=b opset=1 nodes=1\nin 0 x i8 9 0 9\n"), "outside"));
}

TEST_CASE("the references agree with sums done by hand") {
  // 1 x 3 x 3 x 1 image 1..9, kernel 2 x 2 of 1 2 / 3 4, stride 2, padding 1 at the right and the bottom only.
  const std::vector<int> x = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  const std::vector<int> k = {1, 2, 3, 4};
  window w;
  w.kernel_height = w.kernel_width = 2;
  w.stride_height = w.stride_width = 2;
  w.pad_bottom = w.pad_right = 1;
  const image_shape in{1, 3, 3, 1};
  const std::vector<std::int64_t> expected = {1 + 4 + 12 + 20, 3 + 18, 7 + 16, 9};
  CHECK(conv2d_reference<std::int64_t>(x, in, k, 1, w) == expected);
  CHECK(depthwise_conv2d_reference<std::int64_t>(x, in, k, 1, w) == expected);
  // A zero point is taken off inside the image only: the padding itself is worth nothing.
  CHECK(conv2d_reference<std::int64_t>(x, in, k, 1, w, 1)[3] == 8);
  CHECK(linear_reference<std::int64_t>(x, x, 3, 3, 3)[5] == 4 * 7 + 5 * 8 + 6 * 9);

  w.dilation_width = 2;
  w.pad_left = 2;
  POLYMAC_RANDOM(random, 1);
  const image_shape shape{2, 5, 6, 4};
  w.groups = 2;
  const auto values = small_integers<int>(random, shape.count());
  const auto weights = small_integers<int>(random, 6 * 2 * 2 * 2);
  const auto y = conv2d_reference<std::int64_t>(values, shape, weights, 6, w);
  const auto dy = small_integers<int>(random, y.size());
  CHECK(inner_product(y, dy) == inner_product(values, conv2d_input_gradient(dy, shape, weights, 6, w)));
  CHECK(inner_product(y, dy) == inner_product(weights, conv2d_weight_gradient(dy, values, shape, 6, w)));
}
