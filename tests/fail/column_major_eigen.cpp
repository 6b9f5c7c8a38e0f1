// expect: polymac: views hold rows, and Eigen's default is column-major
#include <polymac/adapt/eigen.hpp>

auto data(Eigen::MatrixXf& m) { return polymac::adapt::view(m).data; }
