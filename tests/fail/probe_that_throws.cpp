// expect: polymac: a probe is called with (sum, sum, activation, weight), and must be noexcept
#include <polymac/probe/probed.hpp>

#include <polymac/mac/int8.hpp>

// A probe is called within layers, which promise not to throw.
struct throws {
  void operator()(std::int32_t, std::int32_t, std::int8_t, std::int8_t) {}
};
using watched = polymac::probe::probed<polymac::mac::int8, throws>;
watched watch;
