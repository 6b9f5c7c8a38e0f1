// expect: polymac: gated gives float, bfloat16 or float16
#include <polymac/layer/gated.hpp>

#include <cstdint>

int main() {
  const float w[4] = {};
  const polymac::matrix_view<const float> weights(w, 2, 2);
  return polymac::layer::gated<polymac::mac::float32, polymac::activation::silu, polymac::isa::native, std::int8_t>(
             weights, weights)
                 .status()
                 .ok()
             ? 0
             : 1;
}
