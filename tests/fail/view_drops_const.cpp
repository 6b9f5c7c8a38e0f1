// expect: matrix_view<int>
// A view of constants must not become a view of mutable elements.
#include <polymac/core/view.hpp>

polymac::matrix_view<int> writable(polymac::matrix_view<const int> constants) { return constants; }
