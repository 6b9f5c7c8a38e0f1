// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace example {

namespace {

constexpr std::size_t columns = 7;
using cells = std::array<std::string, columns>;

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

cells cells_of(const row& r) {
  return {r.arithmetic,
          format("%g x %g", r.weight_bits, r.activation_bits),
          r.accuracy ? format("%.1f %%", 100 * *r.accuracy)
          : r.score  ? format("%.4f", *r.score)
                     : "-",
          format("%.1f %%", 100 * r.agreement),
          std::isinf(r.sqnr_db) ? "-" : format("%.1f", r.sqnr_db),
          format("%.3f", r.speed),
          format("%.3f", r.microjoules)};
}

std::string real(std::optional<double> v) { return v && std::isfinite(*v) ? format("%.9g", *v) : "null"; }

}  // namespace

void print_table(const std::vector<row>& rows, const std::vector<order>& known) {
  if (rows.empty()) return;
  const char* judged = rows[0].score ? "score" : "accuracy";
  std::vector<cells> lines{{"arithmetic", "bits", judged, "as float32", "SQNR in dB", "speed", "energy in uJ"}};
  for (const row& r : rows) lines.push_back(cells_of(r));
  std::array<std::size_t, columns> widths{};
  for (const cells& line : lines)
    for (std::size_t c = 0; c < columns; ++c) widths[c] = std::max(widths[c], line[c].size());
  std::printf("%s, %zu inputs\n", rows[0].net.c_str(), rows[0].inputs);
  for (std::size_t l = 0; l < lines.size(); ++l) {
    std::string text;
    for (std::size_t c = 0; c < columns; ++c) {
      const std::string space(widths[c] - lines[l][c].size(), ' ');
      text += c == 0 ? lines[l][c] + space : "  " + space + lines[l][c];
    }
    std::printf("%s\n", text.c_str());
    if (l == 0) std::printf("%s\n", std::string(text.size(), '-').c_str());
  }
  for (const order& o : known)
    std::printf("%s  %s: %+.2f %s\n", o.holds ? "yes" : "NO ", o.text.c_str(), o.difference, o.unit);
  std::printf("\n");
}

void explain() {
  std::fputs(R"(bits        of a weight x of an activation, the scales and zero points of blocks and groups counted in
score       mean squared error of the reconstruction
as float32  inputs that get the class that float32 gives them; with a score: whose score is within 1 % of its score
SQNR        of the logits (of the output, where a net has none) against float32's, over all inputs
speed       time of the multiplications in float32 / their time, in this run on one thread, the median over stretches of
            inputs; encoding and gathering windows are not counted
energy      of the additions and multiplications of an inference on hardware made for the arithmetic, at 45 nm (the table
            is in examples/arithmetics/energy.hpp); no memory, no data movement
l_mul       sums are divided by 1 + the mean relative error of a product, a constant of the arithmetic (+0.4 % with 4 bits
            of mantissa, -3.9 % with 3, over all mantissas; mac::l_mul::mean_error()); `as is`: they are not
w4 to w2    weights with a scale and a zero point for 32 of them; ternary: with a scale. Real nets are trained for so few
            bits, these were not, and with 4 and 3 bits how far their rounding errors cancel is luck

Convolutions and fully connected layers run in the arithmetic. Depthwise convolutions, biases, sums of tensors, pools and
activation functions are float32 throughout, in the energy, too. Activations are encoded anew in front of every layer: a
scale or an exponent for a picture from its largest magnitude, or for every block. Nothing is trained or calibrated.
)",
             stdout);
}

void print_json(const std::vector<row>& rows, const std::vector<order>& known) {
  std::fputs("{\"rows\": [", stdout);
  const char* separator = "\n";
  for (const row& r : rows) {
    std::printf(
        "%s  {\"net\": \"%s\", \"arithmetic\": \"%s\", \"weight_bits\": %s, \"activation_bits\": %s, "
        "\"inputs\": %zu, \"accuracy\": %s, \"score\": %s, \"agreement\": %s, \"sqnr_db\": %s, "
        "\"relative_speed\": %s, \"microjoules\": %s}",
        separator, r.net.c_str(), r.arithmetic.c_str(), real(r.weight_bits).c_str(), real(r.activation_bits).c_str(),
        r.inputs, real(r.accuracy).c_str(), real(r.score).c_str(), real(r.agreement).c_str(), real(r.sqnr_db).c_str(),
        real(r.speed).c_str(), real(r.microjoules).c_str());
    separator = ",\n";
  }
  std::fputs("\n], \"orders\": [", stdout);
  separator = "\n";
  for (const order& o : known) {
    std::printf("%s  {\"net\": \"%s\", \"order\": \"%s\", \"difference\": %s, \"unit\": \"%s\", \"holds\": %s}",
                separator, o.net.c_str(), o.text.c_str(), real(o.difference).c_str(), o.unit,
                o.holds ? "true" : "false");
    separator = ",\n";
  }
  std::fputs("\n]}\n", stdout);
}

}  // namespace example
