// expect: polymac: expected an encoding of digits
// An encoding has a radix, a number of digits, and expand().
#include <polymac/mac/bit_weights.hpp>

struct roman {
  static constexpr int radix = 10;
};

constexpr auto name = polymac::mac::bit_weights<4, roman>::name;
