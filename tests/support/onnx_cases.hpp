// SPDX-License-Identifier: MIT
// Reader of the operator cases of ONNX: nodes, attributes, inputs and expected outputs.
#pragma once

#include "support/cases.hpp"

namespace polymac_test {

/// One node: its operator, the names it reads ("" for an optional input left out) and writes, and its attributes.
struct onnx_node {
  std::string op;
  std::vector<std::string> inputs;
  std::vector<std::string> outputs;
  std::map<std::string, std::pair<std::string, std::string>> attributes;  ///< name -> (kind, text of the value)

  bool has(const std::string& name) const { return attributes.count(name) != 0; }
  std::int64_t integer(const std::string& name, std::int64_t otherwise) const {
    const auto values = integers(name, {otherwise});
    if (values.size() != 1) throw case_error(op + "." + name + ": expected one integer");
    return values[0];
  }
  std::vector<std::int64_t> integers(const std::string& name, std::vector<std::int64_t> otherwise) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return otherwise;
    const auto& [kind, text] = found->second;
    if (kind != "i" && kind != "ints") throw case_error(op + "." + name + ": expected kind i or ints, got " + kind);
    std::vector<std::int64_t> values;
    for (const std::string& part : detail::split(text, ',')) {
      std::int64_t value = 0;
      const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), value);
      if (code != std::errc{} || end != part.data() + part.size())
        throw case_error(op + "." + name + ": expected an integer, got '" + part + "'");
      values.push_back(value);
    }
    return values;
  }
  float real(const std::string& name, float otherwise) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return otherwise;
    const auto& [kind, text] = found->second;
    if (kind != "f") throw case_error(op + "." + name + ": expected kind f, got " + kind);
    char* end = nullptr;
    const float value = std::strtof(text.c_str(), &end);
    if (text.empty() || *end != '\0') throw case_error(op + "." + name + ": expected a number, got '" + text + "'");
    return value;
  }
  std::string text(const std::string& name, const std::string& otherwise) const {
    const auto found = attributes.find(name);
    return found == attributes.end() ? otherwise : found->second.second;
  }
};

/// One case: a small graph with its inputs and expected outputs.
struct onnx_case {
  std::string name;
  int opset = 0;
  std::vector<onnx_node> nodes;
  std::map<std::string, case_tensor> given;  ///< inputs and initializers, by name
  std::vector<case_tensor> expected;         ///< outputs, in the order of the graph

  /// Input `index` of node `n`; null where it is optional and left out.
  const case_tensor* input(const onnx_node& n, std::size_t index) const {
    if (index >= n.inputs.size() || n.inputs[index].empty()) return nullptr;
    const auto found = given.find(n.inputs[index]);
    if (found == given.end() || !found->second.present) return nullptr;
    return &found->second;
  }
  const case_tensor& need(const onnx_node& n, std::size_t index) const {
    const case_tensor* found = input(n, index);
    if (found == nullptr) throw case_error(name + ": " + n.op + " has no input " + std::to_string(index));
    return *found;
  }
};

/// All cases of a folder in the layout of data/onnx_node.
class onnx_cases {
 public:
  explicit onnx_cases(const std::filesystem::path& folder) : bytes_(read_bytes(folder / "cases.bin")) {
    std::size_t number = 0;
    for (const std::string& text : read_lines(folder / "cases.txt"))
      read(detail::line_reader(text, (folder / "cases.txt").string(), ++number));
  }
  onnx_cases(const onnx_cases&) = delete;  // the tensors point into bytes_
  onnx_cases& operator=(const onnx_cases&) = delete;

  const std::vector<onnx_case>& all() const { return cases_; }

 private:
  void read(detail::line_reader line) {
    if (line.at_end()) return;
    const std::string kind = line.word("a kind of line");
    if (kind[0] == '#') return;
    if (kind == "case") {
      onnx_case c;
      c.name = line.word("a case name");
      line.value_of(line.word("op=..."), "op");  // the node lines say it again
      c.opset = static_cast<int>(line.to_size(line.value_of(line.word("opset=..."), "opset"), "an operator set"));
      c.nodes.reserve(line.to_size(line.value_of(line.word("nodes=..."), "nodes"), "a node count") % 1024);
      line.finish();
      cases_.push_back(std::move(c));
      return;
    }
    if (cases_.empty()) line.fail("expected a case line before the first '" + kind + "'");
    onnx_case& c = cases_.back();
    if (kind == "node") {
      if (line.number("a node index") != c.nodes.size()) line.fail("expected node " + std::to_string(c.nodes.size()));
      onnx_node n;
      n.op = line.word("an operator");
      n.inputs = names(line.value_of(line.word("in=..."), "in"));
      n.outputs = names(line.value_of(line.word("out=..."), "out"));
      line.finish();
      c.nodes.push_back(std::move(n));
    } else if (kind == "attr") {
      const std::size_t node = line.number("a node index");
      if (node >= c.nodes.size()) line.fail("expected the index of a node above, got " + std::to_string(node));
      const std::string name = line.word("an attribute name");
      const std::string type = line.word("a kind of attribute");
      c.nodes[node].attributes[name] = {type, line.remainder()};
    } else if (kind == "in" || kind == "init" || kind == "out") {
      line.number("a tensor index");
      case_tensor t = tensor(line);
      if (kind == "out")
        c.expected.push_back(std::move(t));
      else
        c.given[t.name] = std::move(t);
    } else {
      line.fail("expected case, node, attr, in, init or out, got '" + kind + "'");
    }
  }

  case_tensor tensor(detail::line_reader& line) const {
    case_tensor t;
    t.name = line.word("a tensor name");
    t.type = line.word("a type");
    if (t.type == "none") {
      t.present = false;
      return t;
    }
    const std::string dims = line.word("extents");
    if (dims != "-")
      for (const std::string& d : detail::split(dims, ',')) t.dims.push_back(line.to_size(d, "an extent"));
    const std::size_t offset = line.number("a byte offset");
    t.bytes = line.slice(bytes_, offset, line.number("a byte count"));
    line.finish();
    return t;
  }

  static std::vector<std::string> names(const std::string& text) {
    std::vector<std::string> list = detail::split(text, ',');
    for (std::string& n : list)
      if (n == "-") n.clear();
    return list;
  }

  std::vector<std::byte> bytes_;
  std::vector<onnx_case> cases_;
};

}  // namespace polymac_test
