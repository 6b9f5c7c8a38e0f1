// expect: polymac: pixel_pruning draws other pixels for every call, so delta would find all of them changed
#include <polymac/sparsity.hpp>

#include <random>

using drawn = polymac::policy::pixel_pruning<polymac::policy::pruning::list_compact, polymac::policy::rescale::none,
                                             std::mt19937_64>;
using both = polymac::policy::both<drawn, polymac::policy::delta<4>>;
int main() { return both::name[0]; }
