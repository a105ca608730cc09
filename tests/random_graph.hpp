// Random graphs for the planner's tests, and an interpreter that knows nothing of plans.
#pragma once

#include <map>
#include <vector>

#include "mora/core/random.hpp"
#include "op_harness.hpp"

namespace mora::testing {

// A graph of matmul, add, swiglu, rms_norm, reshape, scale_by, fold and more over values of a few
// shapes; some graphs also hold the gradients of their own leaves, accumulated into bound memory.
class RandomGraph {
 public:
  RandomGraph(uint64_t seed, DType working);

  Graph graph;
  std::vector<Var> outputs;

  const std::vector<Var>& leaves() const { return leaves_; }
  void reset() const;  // undoes updates of leaves
  std::vector<Bytes> leaf_bytes() const;

 private:
  uint64_t pick(uint64_t bound) { return random_.below(next_++, bound); }
  Var leaf(const Shape& shape);
  Var any() { return values_[pick(values_.size())]; }
  Var any_like(const Shape& shape);
  void step();
  Var product(Var x);
  Var reshaped(Var x);
  void differentiate();

  Random random_;
  uint64_t next_ = 0;
  DType working_;
  std::vector<OwnedTensor> memory_;
  std::vector<Array> initial_;
  std::vector<Var> leaves_, values_, targets_;
};

// Runs node by node in the order written, every value in memory of its own (a reshape is an alias):
// what a plan must agree with.
class Interpreter {
 public:
  Interpreter(const Graph& graph, const Backend& backend);
  Tensor operator[](Var v) const;

 private:
  const Graph& graph_;
  std::map<int, OwnedTensor> memory_;
};

}  // namespace mora::testing
