// expect: polymac: a buffer holds plain values
#include <polymac/core/buffer.hpp>

struct with_destructor {
  ~with_destructor() {}
};

polymac::buffer<with_destructor> objects;
