// SPDX-License-Identifier: MIT
// Golden kernel cases of CMSIS-NN (data/cmsis_nn), bit for bit: s8, s16 and s4.
//
// The operator's name chooses the layer; a case of an operator that polymac has must run and agree, others are counted.
#include "catch.hpp"
#include "support/cmsis_nn_layers.hpp"
#include "support/compare.hpp"
#include "support/data.hpp"

#include <iostream>
#include <map>
#include <string>
#include <vector>

using namespace polymac_test;
using namespace polymac_test::cmsis_nn;
using polymac::mac::int16x8;
using polymac::mac::int8;

namespace {

/// An operator's name taken to pieces: arm_FAMILY..._TYPES..., as in arm_convolve_1x1_s8_fast or arm_softmax_s8_s16.
struct operator_name {
  std::string text;
  std::vector<std::string> types;

  explicit operator_name(const std::string& name) : text(name.rfind("arm_", 0) == 0 ? name.substr(4) : name) {
    for (const std::string& piece : detail::split(text, '_'))
      if (piece == "s4" || piece == "s8" || piece == "s16" || piece == "f16" || piece == "f32") types.push_back(piece);
  }
  bool is(std::string_view family) const { return text.rfind(family, 0) == 0; }
  bool has(std::initializer_list<std::string_view> expected) const {
    return std::vector<std::string>(expected.begin(), expected.end()) == types;
  }
};

template <class T>
void compare(const kernel_case& c, const std::vector<T>& y) {
  CHECK(difference(c.array({"output_ref", "output"}).template values<T>(), y) == "");
}

/// Runs the case on the layer its operator names; false where polymac has none.
bool run(const operator_name& op, const kernel_case& c) {
  const bool s4 = op.has({"s4"}), s8 = op.has({"s8"}), s16 = op.has({"s16"});
  const scheme s = s4 ? scheme::s4 : s8 ? scheme::s8 : scheme::s16;
  if (op.is("depthwise_conv") && (s4 || s8)) return compare(c, run_depthwise<int8>(c, s)), true;
  if (op.is("depthwise_conv") && s16) return compare(c, run_depthwise<int16x8>(c, s)), true;
  if ((op.is("convolve") || op.is("grouped_convolve")) && (s4 || s8))
    return compare(c, run_convolution<int8>(c, s)), true;
  if ((op.is("convolve") || op.is("grouped_convolve")) && s16) return compare(c, run_convolution<int16x8>(c, s)), true;
  if (op.is("fully_connected") && (s4 || s8)) return compare(c, run_linear<int8>(c, s)), true;
  if (op.is("fully_connected") && s16) return compare(c, run_linear<int16x8>(c, s)), true;
  using namespace polymac::layer;
  const bool average = op.is("avgpool") || op.is("avg_pool"), largest = op.is("maxpool") || op.is("max_pool");
  if (average && s8) return compare(c, run_pool<average_pool2d, std::int8_t>(c)), true;
  if (average && s16) return compare(c, run_pool<average_pool2d, std::int16_t>(c)), true;
  if (largest && s8) return compare(c, run_pool<max_pool2d, std::int8_t>(c)), true;
  if (largest && s16) return compare(c, run_pool<max_pool2d, std::int16_t>(c)), true;
  if (op.is("elementwise_add") && s8) return compare(c, run_elementwise<add<std::int8_t>>(c)), true;
  if (op.is("elementwise_add") && s16) return compare(c, run_elementwise<add<std::int16_t>>(c)), true;
  if (op.is("elementwise_mul") && s8) return compare(c, run_elementwise<mul<std::int8_t>>(c)), true;
  if (op.is("elementwise_mul") && s16) return compare(c, run_elementwise<mul<std::int16_t>>(c)), true;
  if (op.is("softmax") && s16) return compare(c, run_softmax<std::int16_t, std::int16_t>(c)), true;
  if (op.is("softmax") && !softmax_is_regular(c)) return false;
  if (op.is("softmax") && s8) return compare(c, run_softmax<std::int8_t, std::int8_t>(c)), true;
  if (op.is("softmax") && op.has({"s8", "s16"})) return compare(c, run_softmax<std::int8_t, std::int16_t>(c)), true;
  if (op.is("pad") && s8) return compare(c, run_pad(c)), true;
  if (op.is("ds_cnn") && s8) return compare(c, run_net(c)), true;
  return false;
}

}  // namespace

TEST_CASE("CMSIS-NN golden cases, bit for bit") {
  const auto folder = find_data("cmsis_nn");
  if (!folder) return;
  const kernel_cases cases(*folder);
  REQUIRE(!cases.all().empty());
  std::map<std::string, int> covered, not_covered;
  for (const kernel_case& c : cases.all()) {
    for (const std::string& name : c.operators) {
      CAPTURE(c.name, name);
      try {
        ++(run(operator_name(name), c) ? covered : not_covered)[name];
      } catch (const std::exception& e) {  // a case that cannot be read, or parameters that a layer refuses
        ++covered[name];
        FAIL_CHECK(e.what());
      }
    }
  }
  const auto print = [](const char* title, const std::map<std::string, int>& counts) {
    int total = 0;
    for (const auto& [name, count] : counts) total += count;
    std::cout << title << ": " << total << " cases\n";
    for (const auto& [name, count] : counts) std::cout << "  " << count << ' ' << name << '\n';
  };
  print("covered", covered);
  print("not covered (operators or number types that polymac does not have)", not_covered);
}
