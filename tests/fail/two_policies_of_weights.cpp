// expect: polymac: policy::both<A, B> expects policies that leave out different things
#include <polymac/sparsity.hpp>

using both = polymac::policy::both<polymac::policy::n_of_m<2, 4>, polymac::policy::block_list<1, 16>>;
int main() { return both::name[0]; }
