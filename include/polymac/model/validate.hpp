// SPDX-License-Identifier: MIT
// Decides whether a graph can be run: sizes, quantisation, indices, order, and the rules of every operation.
#pragma once

#include "polymac/model/graph.hpp"
#include "polymac/model/operation_rules.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

POLYMAC_BEGIN
namespace model {

/// Checks tensor `index` of `g` by itself: extents above 0, at most `tensor_shape::max_elements` elements, constant
/// data of exactly the size of the shape, scales finite and above 0, zero points inside the range of the type, and as
/// many scales as the axis is long. O(number of scales).
inline status validate_tensor(const graph& g, std::size_t index) {
  const tensor_info& t = g.tensors[index];
  const auto fail = [&](errc code, const auto&... pieces) {
    return status::make(code, "tensor ", index, " ('", std::string_view(t.name).substr(0, 48), "'): ", pieces...);
  };
  for (std::size_t i = 0; i < t.shape.rank; ++i)
    if (t.shape[i] == 0) return fail(errc::shape, "expected extents of at least 1, got ", shape_text(t.shape));
  if (t.shape.elements() > tensor_shape::max_elements)
    return fail(errc::shape, "expected at most ", tensor_shape::max_elements, " elements, got shape ",
                shape_text(t.shape));
  const std::uint64_t bytes = bytes_of(t.type, t.shape.elements());
  if (t.is_constant() && t.data.size() != bytes)
    return fail(errc::corrupt, "expected ", bytes, " bytes of constant data for ", name(t.type), " ",
                shape_text(t.shape), ", got ", t.data.size());

  const quantization& q = t.quantized;
  if (q.zero_points.size() != q.scales.size())
    return fail(errc::corrupt, "expected as many zero points as scales (", q.scales.size(), "), got ",
                q.zero_points.size());
  if (q.per_axis() && (q.axis >= t.shape.rank || t.shape[q.axis] != q.scales.size()))
    return fail(errc::corrupt, "expected one scale for each index of axis ", q.axis, " of ", shape_text(t.shape),
                ", got ", q.scales.size());
  const auto [lowest, highest] = code_range(t.type);
  for (std::size_t i = 0; i < q.scales.size(); ++i) {
    if (!std::isfinite(q.scales[i]) || !(q.scales[i] > 0.0F))
      return fail(errc::parameter, "scale ", i, ": expected a finite value above 0, got ",
                  std::isnan(q.scales[i])   ? "not a number"
                  : std::isinf(q.scales[i]) ? "infinity"
                                            : "0 or less");
    if (q.zero_points[i] < lowest || q.zero_points[i] > highest)
      return fail(errc::parameter, "zero point ", i, ": expected a value of ", lowest, " to ", highest, " for ",
                  name(t.type), ", got ", q.zero_points[i]);
  }
  return {};
}

/// Checks a whole graph. After success every index is in range, every operation reads only constants, graph inputs and
/// results of earlier operations, each tensor is written once, and each operation satisfies `operation_rules`.
/// O(tensors + operations). Errors name the tensor or operation by its index.
inline status validate(const graph& g) {
  const std::size_t count = g.tensors.size();
  for (std::size_t i = 0; i < count; ++i)
    if (status s = validate_tensor(g, i); !s) return s;
  const auto outside = [count](std::int32_t i) { return i < 0 || static_cast<std::size_t>(i) >= count; };

  std::vector<bool> known(count);  // has a value at this point of the order
  for (std::size_t i = 0; i < count; ++i) known[i] = g.tensors[i].is_constant();
  if (g.inputs.empty()) return status::make(errc::corrupt, "graph: expected at least 1 input, got none");
  if (g.outputs.empty()) return status::make(errc::corrupt, "graph: expected at least 1 output, got none");
  for (const std::int32_t i : g.inputs) {
    if (outside(i)) return status::make(errc::corrupt, "graph input: expected a tensor below ", count, ", got ", i);
    const auto at = static_cast<std::size_t>(i);
    if (known[at])
      return status::make(errc::corrupt, "graph input: tensor ", i, " is ",
                          g.tensors[at].is_constant() ? "a constant" : "listed twice");
    known[at] = true;
  }

  std::vector<bool> written(count);
  for (std::size_t n = 0; n < g.operations.size(); ++n) {
    const operation& op = g.operations[n];
    const auto fail = [&](errc code, const auto&... pieces) {
      return status::make(code, "operation ", n, " (", name(op.kind), "): ", pieces...);
    };
    const operation_rules rules(g, op, n);
    if (status s = rules.check_count(); !s) return s;
    for (std::size_t k = 0; k < op.inputs.size(); ++k) {
      const std::int32_t i = op.inputs[k];
      if (i == -1) continue;
      if (outside(i)) return fail(errc::corrupt, "input ", k, ": expected a tensor below ", count, ", got ", i);
      if (!known[static_cast<std::size_t>(i)])
        return fail(errc::corrupt, "input ", k,
                    ": expected a constant, a graph input or an earlier result, got tensor ", i,
                    ", which nothing has written");
    }
    const std::int32_t out = op.outputs[0];
    if (outside(out)) return fail(errc::corrupt, "output: expected a tensor below ", count, ", got ", out);
    if (known[static_cast<std::size_t>(out)])
      return fail(errc::corrupt, "output: expected a tensor without a value, got tensor ", out,
                  ", which is a constant, a graph input or an earlier result");
    if (status s = rules.check(); !s) return s;
    known[static_cast<std::size_t>(out)] = true;
    written[static_cast<std::size_t>(out)] = true;
  }
  for (const std::int32_t i : g.outputs) {
    if (outside(i)) return status::make(errc::corrupt, "graph output: expected a tensor below ", count, ", got ", i);
    if (!written[static_cast<std::size_t>(i)])
      return status::make(errc::corrupt, "graph output: expected the result of an operation, got tensor ", i,
                          ", which none writes");
  }
  return {};
}

}  // namespace model
POLYMAC_END
