// SPDX-License-Identifier: MIT
// write_digit_net MODEL INPUTS: the digit network as a file, and three pictures as its inputs, for run.cmake.
#include "examples/mlperf_tiny/digit_net.hpp"
#include "examples/mlperf_tiny/draw_digit.hpp"

#include <cstdio>
#include <vector>

namespace {

bool write(const char* name, const void* data, std::size_t size) {
  std::FILE* file = std::fopen(name, "wb");
  if (file == nullptr) return std::perror(name), false;
  const bool written = std::fwrite(data, 1, size, file) == size;
  return std::fclose(file) == 0 && written;
}

}  // namespace

int main(int argc, char* argv[]) {
  if (argc != 3) return std::fputs("use: write_digit_net MODEL INPUTS\n", stderr), 2;
  std::vector<std::uint8_t> inputs;
  for (std::uint64_t i = 0; i < 3; ++i)
    for (const std::uint8_t pixel : digits::draw_digit(digits::test_seed, i).pixels) inputs.push_back(pixel ^ 0x80);
  const bool written =
      write(argv[1], digits::digit_net, sizeof digits::digit_net) && write(argv[2], inputs.data(), inputs.size());
  return written ? 0 : 1;
}
