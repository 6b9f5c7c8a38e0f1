// SPDX-License-Identifier: MIT
// Leaky integrate-and-fire neurons: sums become spikes, and what is left waits for the next time step.
#pragma once

#include "polymac/core/buffer.hpp"
#include "polymac/epilogue/epilogue.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <type_traits>

POLYMAC_BEGIN
namespace epilogue {

/// What a membrane does after a spike.
enum class membrane_reset : unsigned char {
  subtract,  ///< less the threshold: what was above it is kept
  to_zero,   ///< to 0
};

/// A leaky integrate-and-fire neuron.
struct neuron {
  float decay = 1.0f;      ///< what a step keeps of the potential, in [0, 1]; 1 does not leak
  float threshold = 1.0f;  ///< finite, above 0
  float gain = 1.0f;       ///< finite; potential per unit of the sum (a scale)
  membrane_reset reset = membrane_reset::subtract;
  std::uint8_t refractory = 0;  ///< steps after a spike in which the neuron is deaf
};

/// The state of rows x columns neurons between time steps: for every output of a layer a membrane potential, and how
/// many steps it is still refractory. Allocated once. It may be moved while stages refer to it (they point to its
/// memory, not to the object); it must outlive them. A copy is another state.
class membranes {
 public:
  /// Throws polymac::error (or sets `status()` where exceptions are off) without memory.
  membranes(std::size_t rows, std::size_t columns) : rows_(rows), columns_(columns) {
    status_ = allocate();
    polymac::detail::raise_unless_ok(status_);
  }
  const polymac::status& status() const noexcept { return status_; }
  std::size_t rows() const noexcept { return rows_; }
  std::size_t columns() const noexcept { return columns_; }
  float* potentials() noexcept { return potentials_.data(); }
  const float* potentials() const noexcept { return potentials_.data(); }
  std::uint8_t* refractory() noexcept { return refractory_.data(); }
  float operator()(std::size_t row, std::size_t column) const noexcept { return potentials_[row * columns_ + column]; }
  /// Rest: potential 0, nothing refractory. Before a new sequence.
  void reset() noexcept {
    for (std::size_t i = 0; i < potentials_.size(); ++i) potentials_[i] = 0.0f;
    for (std::size_t i = 0; i < refractory_.size(); ++i) refractory_[i] = 0;
  }

 private:
  polymac::status allocate() noexcept {
    if (columns_ > 0 && rows_ > static_cast<std::size_t>(-1) / columns_)
      return polymac::status::make(errc::shape, "membranes: ", rows_, " x ", columns_, " exceed the address space");
    auto s = potentials_.resize(rows_ * columns_);
    return s.ok() ? refractory_.resize(rows_ * columns_) : s;
  }
  std::size_t rows_, columns_;
  buffer<float> potentials_;
  buffer<std::uint8_t> refractory_;
  polymac::status status_;
};

/// One time step of a layer of neurons per call of the layer, on integer or float sums:
///
///     refractory > 0:    refractory -= 1, v *= decay                                        -> 0
///     else               v = decay * v + gain * float(sum);  v < threshold                  -> 0
///                                                            else reset, start refractory   -> 1
///
/// (Gerstner and Kistler, Spiking Neuron Models, 2002, in discrete time.) The output is a std::uint8_t, 1 for a spike;
/// mac::spike::encode makes words of them for the next layer. The only stage with a state: outputs of different rows
/// may be computed by different threads, each of them once a step. Rows beyond the state's give 0 and touch nothing.
class leaky_integrate_fire_stage : public stage {
 public:
  leaky_integrate_fire_stage(membranes& state, const neuron& n) noexcept
      : neuron_(n),
        potentials_(state.potentials()),
        refractory_(state.refractory()),
        rows_(state.status().ok() ? state.rows() : 0),
        columns_(state.columns()) {}

  status check(std::size_t columns) const noexcept {
    if (columns != columns_)
      return status::make(errc::shape, "leaky_integrate_fire: expected the state of ", columns, " columns, got ",
                          columns_);
    if (!(neuron_.decay >= 0.0f && neuron_.decay <= 1.0f))
      return status::make(errc::parameter, "leaky_integrate_fire: expected a decay in [0, 1]");
    if (!(neuron_.threshold > 0.0f && is_finite(neuron_.threshold)))
      return status::make(errc::parameter, "leaky_integrate_fire: expected a finite threshold above 0");
    if (!is_finite(neuron_.gain)) return status::make(errc::parameter, "leaky_integrate_fire: expected a finite gain");
    return {};
  }
  template <class Sum>
  requires(std::integral<Sum> || std::floating_point<Sum>) std::uint8_t operator()(Sum sum, std::size_t row,
                                                                                   std::size_t column) const noexcept {
    if (row >= rows_) return 0;
    const std::size_t i = row * columns_ + column;
    const float kept = neuron_.decay * potentials_[i];
    if (refractory_[i] > 0) {
      --refractory_[i];
      potentials_[i] = kept;
      return 0;
    }
    const float v = kept + neuron_.gain * static_cast<float>(sum);
    const bool fires = v >= neuron_.threshold;
    potentials_[i] = !fires ? v : neuron_.reset == membrane_reset::to_zero ? 0.0f : v - neuron_.threshold;
    if (fires) refractory_[i] = neuron_.refractory;
    return fires ? 1 : 0;
  }

 private:
  static bool is_finite(float v) noexcept { return v - v == 0.0f; }

  neuron neuron_;
  float* potentials_;
  std::uint8_t* refractory_;
  std::size_t rows_, columns_;
};

/// Neurons n with the state `state`, which must outlive the layer. A temporary would not.
inline leaky_integrate_fire_stage leaky_integrate_fire(membranes& state, const neuron& n = {}) noexcept {
  return {state, n};
}
leaky_integrate_fire_stage leaky_integrate_fire(membranes&& state, const neuron& n = {}) = delete;

}  // namespace epilogue
POLYMAC_END
