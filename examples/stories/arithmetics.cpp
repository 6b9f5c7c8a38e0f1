// SPDX-License-Identifier: MIT
#include "language_model.hpp"

#include <array>

namespace example {

std::span<const arithmetic> all_arithmetics() {
  static constexpr std::array list{
      arithmetic{"float32", make_float32}, arithmetic{"bf16", make_bf16},   arithmetic{"fp16", make_fp16},
      arithmetic{"int8", make_int8},       arithmetic{"dfp16", make_dfp16}, arithmetic{"l_mul<4>", make_l_mul},
      arithmetic{"w4", make_w4},           arithmetic{"w2", make_w2},       arithmetic{"ternary", make_ternary}};
  return list;
}

const arithmetic* find_arithmetic(std::string_view name) {
  for (const arithmetic& a : all_arithmetics())
    if (name == a.name) return &a;
  return nullptr;
}

}  // namespace example
