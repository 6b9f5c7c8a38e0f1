// expect: polymac: this epilogue does not take the sums of the arithmetic
#include <polymac/polymac.hpp>

polymac::layer::linear<polymac::mac::float32, polymac::epilogue::requantize_stage<>>* layer = nullptr;
auto columns = layer->columns();
