// SPDX-License-Identifier: MIT
#include "report.hpp"

#include "examples/common/json.hpp"
#include "examples/common/table.hpp"

#include <cmath>
#include <cstdio>

namespace example {

namespace {

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

}  // namespace

void print_table(const std::vector<row>& rows, const std::vector<order>& known) {
  if (rows.empty()) return;
  const char* judged = rows[0].score ? "score" : "accuracy";
  std::vector<cells> lines{{"arithmetic", "bits", judged, "as float32", "SQNR in dB", "speed", "energy in uJ"}};
  for (const row& r : rows) lines.push_back(cells_of(r));
  std::printf("%s, %zu inputs\n", rows[0].net.c_str(), rows[0].inputs);
  print_lines(lines);
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
  row_separator separator;
  for (const row& r : rows) {
    std::printf(
        "%s  {\"net\": \"%s\", \"arithmetic\": \"%s\", \"weight_bits\": %s, \"activation_bits\": %s, "
        "\"inputs\": %zu, \"accuracy\": %s, \"score\": %s, \"agreement\": %s, \"sqnr_db\": %s, "
        "\"relative_speed\": %s, \"microjoules\": %s}",
        separator.next(), r.net.c_str(), r.arithmetic.c_str(), json_number(r.weight_bits).c_str(),
        json_number(r.activation_bits).c_str(), r.inputs, json_number(r.accuracy).c_str(), json_number(r.score).c_str(),
        json_number(r.agreement).c_str(), json_number(r.sqnr_db).c_str(), json_number(r.speed).c_str(),
        json_number(r.microjoules).c_str());
  }
  std::fputs("\n], \"orders\": [", stdout);
  separator = {};
  for (const order& o : known) {
    std::printf("%s  {\"net\": \"%s\", \"order\": \"%s\", \"difference\": %s, \"unit\": \"%s\", \"holds\": %s}",
                separator.next(), o.net.c_str(), o.text.c_str(), json_number(o.difference).c_str(), o.unit,
                o.holds ? "true" : "false");
  }
  std::fputs("\n]}\n", stdout);
}

}  // namespace example
