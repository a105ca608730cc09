// Adapter: what a fine-tuning method adds to one linear layer. A method is an object behind this
// interface, never a flag in the layer.
#pragma once

#include <memory>

#include "mora/config/run_config.hpp"
#include "mora/nn/context.hpp"

namespace mora {

// An update that passes through few numbers: delta(x) = up(down(x)) when dropout is off.
class Factored {
 public:
  virtual ~Factored() = default;
  virtual int64_t inner() const = 0;                       // how many
  virtual Var down(Context& context, Var x) const = 0;     // [T, in] -> [T, inner]
  virtual Var up(Context& context, Var inside) const = 0;  // [T, inner] -> [T, out]
};

// The layer that an adapter changes, at one place of a graph.
struct AdaptedLayer {
  Var x;        // its input [T, in]
  Var weight;   // its matrix [out, in], of any storage type; empty where it is not at hand
  Var product;  // x weight^T [T, out], without the bias; empty as the weight is
};

class Adapter {
 public:
  virtual ~Adapter() = default;

  // The change of the layer's output, [T, in] -> [T, out]. Linear in x when dropout is off; merging
  // relies on it. Methods that rescale the weight (DoRA) need it; others look at x alone.
  virtual Var delta(Context& context, const AdaptedLayer& layer) const = 0;

  // Fills what does not start from its Init alone, once that and the layer's weight are there.
  virtual void initialise(uint64_t /*seed*/, const Tensor& /*weight*/) const {}

  // Takes on the grouping that the configuration of its method has now. Graphs that exist stay as
  // they are; they may no longer be run.
  virtual void regroup(const AdapterConfig& /*config*/) {}

  // The method as two thin factors; null where its update has full rank.
  virtual const Factored* factored() const { return nullptr; }
};

}  // namespace mora
