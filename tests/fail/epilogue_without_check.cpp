// expect: polymac: a stage needs check(columns) const noexcept
// A stage that cannot be asked whether it fits the columns is none.
#include <polymac/epilogue/epilogue.hpp>

struct half_a_stage : polymac::epilogue::stage {
  float operator()(float value, std::size_t, std::size_t) const noexcept { return value; }
};

auto joined = half_a_stage{} | polymac::epilogue::identity{};
