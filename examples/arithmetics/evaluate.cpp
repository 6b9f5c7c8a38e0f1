// SPDX-License-Identifier: MIT
#include "evaluate.hpp"

#include "energy.hpp"
#include "examples/common/progress.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace example {

using polymac::errc;
using polymac::result;
using polymac::status;

namespace {

/// Inputs that one arithmetic runs in a stretch, before the next one does: times are compared within that.
constexpr std::size_t stretch = 16;

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// One arithmetic at work.
struct candidate {
  float_net::layers layers;
  std::vector<float> logits;
  std::vector<double> times;  ///< medians of the stretches, seconds
};

std::size_t class_of(std::span<const float> logits) {
  return static_cast<std::size_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double mean_squared_error(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - double{b[i]}) * (double{a[i]} - double{b[i]});
  return sum / static_cast<double>(a.size());
}

double sqnr_db(std::span<const float> exact, std::span<const float> other) {
  double signal = 0, noise = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    signal += double{exact[i]} * double{exact[i]};
    noise += (double{exact[i]} - double{other[i]}) * (double{exact[i]} - double{other[i]});
  }
  return noise == 0 ? std::numeric_limits<double>::infinity() : 10 * std::log10(signal / noise);
}

row judge(const task& t, const arithmetic& a, const candidate& c, const candidate& exact, std::size_t count) {
  row r;
  r.net = t.name, r.arithmetic = a.name, r.inputs = count;
  r.weight_bits = a.weight_bits, r.activation_bits = a.activation_bits;
  const std::size_t in = t.net.inputs(), out = t.net.outputs();
  std::size_t agree = 0, right = 0;
  double score = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::span<const float> ours(c.logits.data() + i * out, out), theirs(exact.logits.data() + i * out, out);
    if (t.reconstructs) {
      const std::span<const float> input(t.inputs.data() + i * in, in);
      const double of_ours = mean_squared_error(input, ours), of_theirs = mean_squared_error(input, theirs);
      score += of_ours;
      agree += std::abs(of_ours - of_theirs) <= 0.01 * of_theirs ? 1 : 0;
    } else {
      agree += class_of(ours) == class_of(theirs) ? 1 : 0;
      if (!t.labels.empty()) right += class_of(ours) == std::to_integer<std::size_t>(t.labels[i]) ? 1 : 0;
    }
  }
  const auto n = static_cast<double>(count);
  r.agreement = static_cast<double>(agree) / n;
  if (t.reconstructs) r.score = score / n;
  if (!t.labels.empty()) r.accuracy = static_cast<double>(right) / n;
  r.sqnr_db = sqnr_db(exact.logits, c.logits);
  std::vector<double> ratios;
  for (std::size_t i = 0; i < c.times.size(); ++i) ratios.push_back(exact.times[i] / c.times[i]);
  r.speed = median(ratios);
  r.microjoules = 1e-6 * (a.picojoules * static_cast<double>(t.net.macs()) +
                          energy::float32 * static_cast<double>(t.net.float_macs()));
  return r;
}

/// Is the float32 net what others make of it?
status compare_with_reference(const task& t, std::span<const float> logits) {
  if (t.reference.empty()) return {};
  constexpr float tolerance = 1e-4F;
  float largest = 0;
  for (const float v : t.reference) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!(std::abs(logits[i] - t.reference[i]) <= tolerance * largest))
      return status::make(errc::corrupt, "float32 differs from the reference: value ", i / t.net.outputs(), ", ",
                          i % t.net.outputs());
  return {};
}

}  // namespace

result<std::vector<row>> evaluate(const task& t, std::size_t most) {
  const std::size_t in = t.net.inputs(), out = t.net.outputs(), count = std::min(most, t.inputs.size() / in);
  if (count == 0 || (!t.labels.empty() && t.labels.size() < count) ||
      (!t.reference.empty() && t.reference.size() < count * out) || (t.reconstructs && in != out))
    return status::make(errc::shape, "expected inputs of ", in, " values, as many labels, and outputs of ", out,
                        " values for each");
  const std::vector<arithmetic> list = all_arithmetics();
  std::vector<candidate> all(list.size());
  for (std::size_t a = 0; a < list.size(); ++a) {
    auto layers = t.net.encode(list[a]);
    if (!layers.ok()) return status::make(errc::unsupported, list[a].name, ": ", layers.status().c_str());
    all[a].layers = std::move(*layers);
    all[a].logits.resize(count * out);
  }
  {
    progress_bar bar(t.name, count * list.size());
    std::size_t done = 0;
    for (std::size_t first = 0; first < count; first += stretch) {
      const std::size_t last = std::min(first + stretch, count);
      for (std::size_t a = 0; a < list.size(); ++a) {
        candidate& c = all[a];
        std::vector<double> times;
        for (std::size_t i = first; i < last; ++i) {
          double seconds = 0;
          const status s =
              t.net.run(c.layers, {t.inputs.data() + i * in, in}, {c.logits.data() + i * out, out}, seconds);
          if (!s.ok()) return status::make(errc::unsupported, list[a].name, ": ", s.c_str());
          times.push_back(seconds);
          bar.show(++done);
        }
        c.times.push_back(median(times));
      }
    }
  }
  if (status s = compare_with_reference(t, all[0].logits); !s.ok()) return s;
  std::vector<row> rows;
  for (std::size_t a = 0; a < list.size(); ++a) rows.push_back(judge(t, list[a], all[a], all[0], count));
  return rows;
}

std::vector<order> orders(const std::vector<row>& rows) {
  const auto find = [&](const char* name) -> const row& {
    return *std::find_if(rows.begin(), rows.end(), [&](const row& r) { return r.arithmetic == name; });
  };
  const row &exact = find("float32"), &dfp16 = find("dfp int16");
  const double four = find("l_mul<4>").sqnr_db - find("fp8 e4m3").sqnr_db;
  const double three = find("l_mul<3>").sqnr_db - find("fp8 e5m2").sqnr_db;
  constexpr double few = 3, points = 0.2;
  double change = dfp16.agreement - 1;
  const char* what = "dfp int16 gives the class of float32, within 0.2 points";
  if (exact.score)
    change = *dfp16.score / *exact.score - 1, what = "dfp int16 has the score of float32, within 0.2 %";
  else if (exact.accuracy)
    change = *dfp16.accuracy - *exact.accuracy, what = "dfp int16 has the accuracy of float32, within 0.2 points";
  change *= 100;
  const std::string& net = exact.net;
  return {{net, "l_mul<4> has the SQNR of fp8 e4m3 or a better one, within 3 dB", four, "dB", four >= -few},
          {net, "l_mul<3> has a better SQNR than fp8 e5m2", three, "dB", three > 0},
          {net, what, change, exact.score ? "%" : "points", std::abs(change) <= points + 1e-9}};
}

}  // namespace example
