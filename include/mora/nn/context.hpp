// Context: one graph being written by modules. Binds each parameter once, and knows whether this is
// training.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>

#include "mora/nn/parameter.hpp"
#include "mora/ops/ops.hpp"

namespace mora {

// What makes dropout reproducible: the run's seed and a bound [2] i32 tensor {step, micro step}.
struct DropoutSource {
  uint64_t seed;
  Var step;
};

// Which part of a layer the gradient computes again rather than remembering it: nothing, attention
// with its norm and projections, or the whole layer.
enum class Recompute : uint8_t { none, attention, block };

class Context {
 public:
  explicit Context(Graph& graph) : graph_(graph) {}

  Graph& graph() const { return graph_; }
  Var parameter(const Parameter& p);
  Var constant(const Tensor& memory, const std::string& name);  // bound once per address

  // What make() makes of x, once for all that ask for it by the same name: layers side by side that
  // read one x share it.
  template <class Make>
  Var once(Var x, const std::string& name, const Make& make) {
    const auto [at, is_new] = made_.try_emplace({x.id, name});
    if (is_new) at->second = make();
    return at->second;
  }

  // What activations are stored in between operations; empty: as the working type. The sum that
  // runs from layer to layer is always of the working type.
  void store_activations(DType dtype) { activations_ = dtype; }
  std::optional<DType> activations() const { return activations_; }

  // What is written while the result lives is computed again if `part` is what recompute() named.
  void recompute(Recompute part) { recompute_ = part; }
  [[nodiscard]] std::optional<Graph::RecomputeGuard> region(Recompute part) const {
    using Guard = std::optional<Graph::RecomputeGuard>;
    return part == recompute_ ? Guard(std::in_place, graph_) : Guard();
  }

  // Training with dropout; without it dropout layers are the identity, as in evaluation.
  void enable_dropout(const DropoutSource& source) { dropout_ = source; }
  const std::optional<DropoutSource>& dropout() const { return dropout_; }

 private:
  Graph& graph_;
  std::map<const void*, Var> bound_;
  std::map<std::pair<int, std::string>, Var> made_;
  std::optional<DropoutSource> dropout_;
  std::optional<DType> activations_;
  Recompute recompute_ = Recompute::none;
};

}  // namespace mora
