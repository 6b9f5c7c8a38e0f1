// SPDX-License-Identifier: MIT
// Writes drawn digits to a file for the training: per picture 1 byte label, then 256 bytes of pixels.
#include "../draw_digit.hpp"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

namespace {

bool read_number(const char* text, std::uint64_t& value) {
  if (*text < '0' || *text > '9') return false;
  char* end = nullptr;
  value = std::strtoull(text, &end, 10);
  return *end == '\0';
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seed = 0, count = 0;
  if (argc != 4 || !read_number(argv[1], seed) || !read_number(argv[2], count)) {
    std::fprintf(stderr, "usage: export_digits SEED COUNT FILE   (SEED and COUNT are decimal numbers)\n");
    return 2;
  }
  struct closer {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, closer> file(std::fopen(argv[3], "wb"));
  if (!file) {
    std::fprintf(stderr, "export_digits: cannot write %s\n", argv[3]);
    return 1;
  }
  std::uint64_t sum = 0xCBF29CE484222325u;
  bool good = true;
  for (std::uint64_t i = 0; i < count && good; ++i) {
    const digits::picture p = digits::draw_digit(seed, i);
    sum = digits::checksum(p, sum);
    good = std::fputc(p.label, file.get()) != EOF &&
           std::fwrite(p.pixels.data(), 1, p.pixels.size(), file.get()) == p.pixels.size();
  }
  good = std::fclose(file.release()) == 0 && good;
  if (!good) {
    std::fprintf(stderr, "export_digits: writing %s failed\n", argv[3]);
    return 1;
  }
  std::printf("%016llx\n", static_cast<unsigned long long>(sum));
}
