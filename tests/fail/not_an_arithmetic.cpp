// expect: mac_traits
// An arithmetic without the golden model `multiply_add` is none.
#include <polymac/core/concepts.hpp>

struct half_finished {
  using activation = int;
  using weight = int;
  using accumulator = int;
  static constexpr const char* name = "half_finished";
  static constexpr bool linear = true;
  static constexpr bool exact = true;
};

polymac::mac_traits<half_finished> traits;
