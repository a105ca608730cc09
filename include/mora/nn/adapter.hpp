// Adapter: what a fine-tuning method adds to one linear layer. A method is an object behind this
// interface, never a flag in the layer.
#pragma once

#include <memory>

#include "mora/nn/context.hpp"

namespace mora {

class Adapter {
 public:
  virtual ~Adapter() = default;

  // The change of the layer's output, [T, in] -> [T, out]. Linear in x when dropout is off; merging
  // relies on it.
  virtual Var delta(Context& context, Var x) const = 0;
};

}  // namespace mora
