// Binds a case's numbers to memory and runs graphs over it: what the op, completeness and planner
// tests share.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "mora/plan/plan.hpp"
#include "op_cases.hpp"

namespace mora::testing {

using Bytes = std::vector<std::byte>;

// The largest difference, as a fraction of the largest magnitude expected (absolute where only
// zeros are); infinite where the sizes differ, NaN where a difference is.
double relative_error(const Array& got, const Array& expected);

Array numbers(const Tensor& t);                     // any type, as doubles
void assign(const Tensor& t, const Array& values);  // rounded to the tensor's type
Bytes bytes_of(const Tensor& t);
std::vector<Bytes> bytes_of(const Plan& plan, std::span<const Var> values);

// Inputs in memory of their own, bound to a graph.
class Inputs {
 public:
  Inputs(Graph& graph, std::span<const CaseInput> inputs, DType working,
         const std::string& seed_name);
  // Working types by input: activations may be bf16 where the others are f32.
  Inputs(Graph& graph, std::span<const CaseInput> inputs, std::span<const DType> working,
         const std::string& seed_name);

  std::span<const Var> vars() const { return vars_; }
  const Arrays& initial() const { return initial_; }  // as stored, before any update
  Tensor memory(size_t i) const { return memory_[i].view(); }
  void reset() const;  // undoes updates

 private:
  std::vector<OwnedTensor> memory_;
  std::vector<Var> vars_;
  Arrays initial_;
};

// Fills the workspace with a byte and runs: kernels must not depend on what memory held. 0xff is a
// NaN in every type.
void run_over(Plan& plan, Workspace& workspace, int fill);

// Sets the thread count for a block of code.
class Threads {
 public:
  explicit Threads(int count);
  ~Threads();
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace mora::testing
