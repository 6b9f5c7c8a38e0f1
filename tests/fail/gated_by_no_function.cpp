// expect: polymac: the activation of gated is a function of float with a name
#include <polymac/layer/gated.hpp>

struct nothing {};

int main() {
  const float w[4] = {};
  const polymac::matrix_view<const float> weights(w, 2, 2);
  return polymac::gated<polymac::mac::float32, nothing>(weights, weights).status().ok() ? 0 : 1;
}
