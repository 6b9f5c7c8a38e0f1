// expect: polymac: low_rank: the middle stages must give activations of the arithmetic
#include <polymac/layer/low_rank.hpp>
#include <polymac/polymac.hpp>

#include <vector>

int main() {
  using namespace polymac;
  const std::vector<std::int8_t> w(4);
  const matrix_view<const std::int8_t> two(w.data(), 2, 2);
  const auto l = linear<mac::int8, policy::low_rank<2>>(two, two, std::vector<std::int32_t>(2));
  return static_cast<int>(l.columns());
}
