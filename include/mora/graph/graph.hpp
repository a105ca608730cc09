// Graph: what is computed. Nodes in the order they were written, single assignment, checked while
// being built.
//
// Leaves are bound to memory that outlives the graph (parameters, batches, caches). Everything else
// is a value that a plan places. All errors of shape and type appear here, with the scope of the
// node; a plan has nothing left to refuse.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/core/tensor.hpp"
#include "mora/graph/attrs.hpp"

namespace mora {

class Graph;

// A value of a graph; behaves like a number in formulas.
struct Var {
  Graph* graph = nullptr;
  int id = -1;

  explicit operator bool() const { return graph != nullptr; }
  const Type& type() const;
  const Shape& shape() const;
};

struct Op;

struct Node {
  const Op* op;
  Attrs attrs;
  std::vector<int> in;
  std::vector<int> out;
  std::string scope;  // "model.layers.3.self_attn.q_proj"
};

// Whether a gradient that reads a value reads what the forward pass left, or makes it again. The
// plan does not fuse a sum that is made again with what makes its parts, which are kept.
enum class Remembered : uint8_t { yes, no };

struct Value {
  Type type;
  int producer = -1;  // node, or -1 for a leaf
  Tensor bound;       // a leaf's memory
  std::string name;   // a leaf's name
  Remembered remembered = Remembered::yes;
};

// What a vector-Jacobian product is given: dout[i] is empty where no gradient reaches output i.
struct VjpArgs {
  const Node& node;
  std::span<const Var> in;
  std::span<const Var> out;
  std::span<const Var> dout;
  std::span<const uint8_t> wanted;

  bool wants(size_t input) const { return wanted[input] != 0; }
};

// Floating-point operations of one run: a multiplication and an addition are two.
using CountFlops = double (*)(std::span<const Tensor> in, std::span<const Tensor> out,
                              const Attrs&);

// Everything the library knows about an operation, in one place.
struct Op {
  std::string_view name;
  int id = -1;  // row in a backend's kernel table; -1: no kernel
  std::vector<Type> (*infer)(std::span<const Type> in,
                             const Attrs&);  // throws Error(internal) naming the shapes
  std::vector<Var> (*vjp)(const VjpArgs&) =
      nullptr;       // one Var per input, empty where not wanted; null: none exists
  int inplace = -1;  // output 0 may take over the memory of this input
  int addend = -1;   // its last input, which may be missing: what is added to output 0
  uint32_t mutates =
      0;  // bit i: the kernel updates the bound input i; such a node is never dead code
  CountFlops flops = nullptr;  // null: memory's speed decides, not arithmetic's
};

class Graph {
 public:
  Graph() = default;
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  Var bind(const Tensor& memory, std::string name);
  std::vector<Var> emit(const Op& op, const Attrs& attrs, std::span<const Var> in);

  const std::deque<Node>& nodes() const { return nodes_; }
  const std::deque<Value>& values() const { return values_; }
  const Value& value(int id) const { return values_[static_cast<size_t>(id)]; }

  // Names the nodes written while it lives: scope("model") / scope("layers.0") / ...
  class ScopeGuard {
   public:
    ScopeGuard(Graph& graph, std::string_view name);
    ~ScopeGuard();
    ScopeGuard(const ScopeGuard&) = delete;
    ScopeGuard& operator=(const ScopeGuard&) = delete;

   private:
    Graph& graph_;
    std::string outer_;
  };
  [[nodiscard]] ScopeGuard scope(std::string_view name) { return {*this, name}; }

  // Nodes [begin, end) whose values grad() computes again instead of reading: they die with the
  // forward pass. Regions do not nest.
  struct Region {
    int begin, end;
  };
  const std::deque<Region>& recomputed() const { return recomputed_; }

  // Makes a region of the nodes written while it lives.
  class RecomputeGuard {
   public:
    explicit RecomputeGuard(Graph& graph);
    ~RecomputeGuard();
    RecomputeGuard(const RecomputeGuard&) = delete;
    RecomputeGuard& operator=(const RecomputeGuard&) = delete;

   private:
    Graph& graph_;
  };

 private:
  friend Var forget(Var v);

  int next_node() const { return static_cast<int>(nodes_.size()); }

  std::deque<Node> nodes_;
  std::deque<Value> values_;
  std::string scope_;
  std::deque<Region> recomputed_;  // in order
  bool in_region_ = false;
};

// v, which the gradient makes again where it reads it: for what takes no longer to make than to
// fetch, or little for the memory it would hold.
Var forget(Var v);

// The same bytes under another shape: an alias, no kernel, no copy. Differentiable.
Var reshape(Var x, const Shape& shape);
extern const Op kReshape;

}  // namespace mora
