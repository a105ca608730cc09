#include "adapters/lora_factors.hpp"

#include <cmath>

#include "adapters/methods.hpp"
#include "adapters/singular_frame.hpp"
#include "mora/core/random.hpp"

namespace mora::adapters {

namespace {

// PEFT's: Kaiming-uniform with a = sqrt(5), which is U(-1/sqrt(in), 1/sqrt(in)), or N(0, 1/r).
Init start_of_a(const AdapterConfig& config, int64_t in) {
  if (config.init_lora_weights == "gaussian") return {Init::Kind::normal, 1.0 / double(config.r)};
  return {Init::Kind::uniform, 1.0 / std::sqrt(double(in))};
}

}  // namespace

LoraFactors::LoraFactors(const AdapterConfig& config, const Scope& scope, int64_t in, int64_t out)
    : path_(scope.path()),
      start_(config.init_lora_weights),
      dropout_(config.lora_dropout),
      scale_(lora_scale(config)),
      a_(scope.parameter("lora_A.weight", {config.r, in}, start_of_a(config, in),
                         Training::trained)),
      b_(scope.parameter("lora_B.weight", {out, config.r}, {Init::Kind::zeros},
                         Training::trained)) {
  if (start_ == "asymmetric" && config.r > in) {
    fail(ErrorKind::usage, "adapter.r: ", path_, " has ", in, " inputs, which have no ", config.r,
         " orthogonal directions; adapter.init_lora_weights \"asymmetric\" needs r <= ", in);
  }
}

void LoraFactors::initialise(uint64_t seed) const {
  if (start_ != "asymmetric") return;
  random_singular_frame(Random(seed, Purpose::init, stream_of(a_.name)), a_.value);
}

Var LoraFactors::dropped(Context& context, Var x) const {
  return input_dropout(context, x, dropout_, path_);
}

Var LoraFactors::down(Context& context, Var x) const {
  return matmul(x, context.parameter(a_), {.tb = Transpose::yes, .alpha = scale_});
}

Var LoraFactors::up(Context& context, Var inside) const {
  return matmul(inside, context.parameter(b_), {.tb = Transpose::yes});
}

}  // namespace mora::adapters
