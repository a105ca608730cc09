// LoRA's two matrices, their start and their product: what LoRA and DoRA have in common.
#pragma once

#include <string>

#include "mora/config/run_config.hpp"
#include "mora/nn/adapter.hpp"

namespace mora::adapters {

class LoraFactors {
 public:
  // Declares <scope>.lora_A.weight [r, in] and <scope>.lora_B.weight [out, r], which starts at 0.
  // A starts as init_lora_weights says.
  LoraFactors(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out);

  void initialise(uint64_t seed) const;  // of a start that an Init does not express

  Var dropped(Context& context, Var x) const;  // the method's input
  Var down(Context& context, Var x) const;     // s x A^T
  Var up(Context& context, Var inside) const;  // inside B^T

  const Parameter& a() const { return a_; }
  const Parameter& b() const { return b_; }
  double scale() const { return scale_; }

 private:
  std::string path_, start_;
  double dropout_, scale_;
  const Parameter &a_, &b_;
};

}  // namespace mora::adapters
