// DoRA (Liu et al. 2024, arXiv 2402.09353), as PEFT 0.21 has it for linear layers: the layer's
// matrix is diag(m / ||W + s B A||) (W + s B A), m: [out] one magnitude a row, the norms constants
// to derivatives. m starts as these norms, so that nothing changes at first.
//
// Under dropout both terms of the change read the dropped input, the base's output does not:
// y = W x + (g - 1) W x~ + g s B A x~.
#include <algorithm>
#include <array>

#include "adapters/lora_factors.hpp"
#include "adapters/methods.hpp"
#include "mora/plan/plan.hpp"

namespace mora::adapters {

namespace {

class Dora final : public Adapter {
 public:
  Dora(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
      : path_(scope.path()),
        factors_(config, scope, in, out),
        magnitude_(scope.parameter("lora_magnitude_vector", {out}, {Init::Kind::ones},
                                   Training::trained)) {}

  Var delta(Context& context, const AdaptedLayer& layer) const override {
    ensure(static_cast<bool>(layer.weight), path_, ": DoRA's update needs the layer's weight");
    const Var x = factors_.dropped(context, layer.x);
    const Var base =
        x.id == layer.x.id ? layer.product : matmul(x, layer.weight, {.tb = Transpose::yes});
    return dora({.base = base,
                 .low_rank = factors_.up(context, factors_.down(context, x)),
                 .magnitude = context.parameter(magnitude_),
                 .norm = norm(context, layer.weight)});
  }

  void initialise(uint64_t seed, const Tensor& weight) const override {
    factors_.initialise(seed);
    Graph graph;
    Context context(graph);
    const Var norms = norm(context, context.constant(weight, "weight"));
    const auto backend = make_cpu_backend();
    Workspace workspace;
    Plan plan(graph, std::array{norms}, *backend, workspace);
    plan.run();
    convert(plan[norms], magnitude_.value);
    require_directions(plan[norms]);
  }

 private:
  Var norm(Context& context, Var weight) const {
    return row_norm(weight, context.parameter(factors_.b()), context.parameter(factors_.a()),
                    {.scale = factors_.scale()});
  }

  void require_directions(const Tensor& norms) const {
    const OwnedTensor wide({DType::f64, norms.shape()});
    convert(norms, wide.view());
    const auto values = wide.as<double>();
    const auto zero = std::ranges::find(values, 0.0);
    if (zero == values.end()) return;
    fail(ErrorKind::data, path_, ".weight: row ", zero - values.begin(),
         " is all zeros, which has no direction for DoRA to keep; leave this layer out of "
         "adapter.target_modules or set adapter.use_dora to false");
  }

  std::string path_;
  LoraFactors factors_;
  const Parameter& magnitude_;
};

}  // namespace

std::unique_ptr<Adapter> make_dora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out) {
  return std::make_unique<Dora>(config, scope, in, out);
}

}  // namespace mora::adapters
