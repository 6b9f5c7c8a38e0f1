// SPDX-License-Identifier: MIT
// What has not changed since the last frame is not computed again.
#pragma once

#include "polymac/core/text.hpp"
#include "polymac/policy/policy.hpp"

#include <cstddef>

POLYMAC_BEGIN
namespace policy {

/// What is transmitted together when some activation of it has changed: that one alone; four neighbouring channels; all
/// channels of a pixel (of a row, in a linear layer).
enum class grain { element, group, pixel };

/// What is done about it. accumulate: the products of what has changed are added to sums that the state keeps, (new -
/// old) * w; where that would be more work than the whole row, the row is computed again. recompute: all rows that read
/// something that has changed are computed again; the state keeps outputs, not sums, which are a quarter of the memory.
enum class update { accumulate, recompute };

/// Activations are compared with the ones that were transmitted last, element by element; where none differs by more
/// than Threshold (in units of the activation) from them, they stay what they were. NaN always counts as changed. So
/// |x - reference| <= Threshold holds for every element after every frame, however slowly x drifts, and the output is
/// that of the dense layer on the reference: bit for bit with exact arithmetics, with others in the recompute form; sums
/// that floats accumulate drift, until Refresh. With Threshold 0 that is the dense layer on x.
///
///   Refresh   after so many frames everything is transmitted; 0: never
///
/// Delta networks (Neil et al., ICML 2017; accumulate, element), DeltaCNN (Parger et al., CVPR 2022; pixel), CBinfer
/// (Cavigelli et al., 2017; recompute, pixel).
template <unsigned Threshold = 0, grain Grain = grain::pixel, update Update = update::recompute,
          std::size_t Refresh = 0>
struct delta : activation_policy {
  static constexpr unsigned threshold = Threshold;
  static constexpr grain transmits = Grain;
  static constexpr update updates = Update;
  static constexpr std::size_t refresh = Refresh;

 private:
  static constexpr auto text_ = text<63>::join("delta<", Threshold,
                                               Grain == grain::element ? ", element"
                                               : Grain == grain::group ? ", group"
                                                                       : ", pixel",
                                               Update == update::accumulate ? ", accumulate>" : ", recompute>");

 public:
  static constexpr const char* name = text_.c_str();
};

}  // namespace policy
POLYMAC_END
