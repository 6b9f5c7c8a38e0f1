// expect: polymac: elements of MX blocks are
#include <polymac/core/mx_block.hpp>

polymac::mx_block<short> block;
