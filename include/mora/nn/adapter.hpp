// Adapter: what a fine-tuning method adds to one linear layer. A method is an object behind this
// interface, never a flag in the layer.
#pragma once

#include <memory>

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

class Adapter {
 public:
  virtual ~Adapter() = default;

  // The change of the layer's output, [T, in] -> [T, out]. Linear in x when dropout is off; merging
  // relies on it.
  virtual Var delta(Context& context, Var x) const = 0;

  // The method as two thin factors; null where its update has full rank.
  virtual const Factored* factored() const { return nullptr; }
};

}  // namespace mora
