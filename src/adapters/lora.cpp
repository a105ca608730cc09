// LoRA (Hu et al. 2021): delta(x) = s * B A dropout(x), A: [r, in], B: [out, r]; s = alpha / r, or
// alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023). A starts Kaiming-uniform with a = sqrt(5), which
// is U(-1/sqrt(in), 1/sqrt(in)), B at 0, as PEFT does.
#include <cmath>

#include "adapters/methods.hpp"

namespace mora::adapters {

namespace {

class Lora final : public Adapter, public Factored {
 public:
  Lora(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : path_(scope.path()),
        dropout_(config.lora_dropout),
        scale_(lora_scale(config)),
        a_(scope.parameter("lora_A.weight", {config.r, in},
                           {Init::Kind::uniform, 1.0 / std::sqrt(double(in))}, Training::trained)),
        b_(scope.parameter("lora_B.weight", {out, config.r}, {Init::Kind::zeros},
                           Training::trained)) {}

  Var delta(Context& context, Var x) const override {
    return up(context, down(context, input_dropout(context, x, dropout_, path_)));
  }

  const Factored* factored() const override { return this; }
  int64_t inner() const override { return a_.shape[0]; }
  Var down(Context& context, Var x) const override {
    return matmul(x, context.parameter(a_), {.tb = Transpose::yes, .alpha = scale_});
  }
  Var up(Context& context, Var inside) const override {
    return matmul(inside, context.parameter(b_), {.tb = Transpose::yes});
  }

 private:
  std::string path_;
  double dropout_, scale_;
  const Parameter &a_, &b_;
};

}  // namespace

std::unique_ptr<Adapter> make_lora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out) {
  return std::make_unique<Lora>(config, scope, in, out);
}

double lora_scale(const AdapterConfig& config) {
  const auto r = static_cast<double>(config.r);
  return config.lora_alpha / (config.use_rslora ? std::sqrt(r) : r);
}

int64_t lora_parameters(const AdapterConfig& config, int64_t in, int64_t out) {
  return config.r * (in + out);
}

}  // namespace mora::adapters
