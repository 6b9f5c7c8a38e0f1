// expect: polymac: the time that zero_skip takes shows the data that pixel_pruning hides
#include <polymac/sparsity.hpp>

#include <random>

using drawn = polymac::policy::pixel_pruning<polymac::policy::pruning::zero_fixed, polymac::policy::rescale::none,
                                             std::mt19937_64>;
using both = polymac::policy::both<polymac::policy::zero_skip, drawn>;
int main() { return both::name[0]; }
