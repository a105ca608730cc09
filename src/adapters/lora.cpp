// LoRA (Hu et al. 2021): delta(x) = s * B A dropout(x), A: [r, in], B: [out, r]; s = alpha / r, or
// alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023).
#include <cmath>

#include "adapters/lora_factors.hpp"
#include "adapters/methods.hpp"

namespace mora::adapters {

namespace {

class Lora final : public Adapter, public Factored {
 public:
  Lora(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : factors_(config, scope, in, out) {}

  Var delta(Context& context, const AdaptedLayer& layer) const override {
    return up(context, down(context, factors_.dropped(context, layer.x)));
  }
  void initialise(uint64_t seed, const Tensor&) const override { factors_.initialise(seed); }

  const Factored* factored() const override { return this; }
  int64_t inner() const override { return factors_.a().shape[0]; }
  Var down(Context& context, Var x) const override { return factors_.down(context, x); }
  Var up(Context& context, Var inside) const override { return factors_.up(context, inside); }

 private:
  LoraFactors factors_;
};

}  // namespace

std::unique_ptr<Adapter> make_lora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out) {
  if (config.use_dora) return make_dora(config, scope, in, out);
  return std::make_unique<Lora>(config, scope, in, out);
}

double lora_scale(const AdapterConfig& config) {
  const auto r = static_cast<double>(config.r);
  return config.lora_alpha / (config.use_rslora ? std::sqrt(r) : r);
}

int64_t lora_parameters(const AdapterConfig& config, int64_t in, int64_t out) {
  return config.r * (in + out) + (config.use_dora ? out : 0);
}

}  // namespace mora::adapters
