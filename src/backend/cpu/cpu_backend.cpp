// The table of CPU kernels, by operation and working type.
#include <array>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"

namespace mora {

namespace {

struct Row {
  Kernel f32, f64;
};

constexpr std::array<Row, kOpCount> kKernels = {{
#define MORA_OP(name) {&cpu::name<float>, &cpu::name<double>},
#include "mora/ops/ops.def"
#undef MORA_OP
}};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(MatmulProvider provider) : provider_(provider) {}

  std::string name() const override { return "cpu"; }

  // The working type is that of the first input; narrow types are only ever stored.
  Kernel kernel(const OpCall& call) const override {
    const Row& row = kKernels[static_cast<size_t>(call.op)];
    return call.in[0].dtype == DType::f64 ? row.f64 : row.f32;
  }

  Prepared prepare(const OpCall& call) const override {
    switch (call.op) {
      case OpId::matmul:
        return cpu::prepare_matmul(call, provider_);
      case OpId::linear_cross_entropy:
        return cpu::prepare_linear_cross_entropy(call, provider_);
      case OpId::rms_norm_grad:
        return cpu::prepare_rms_norm_grad(call);
      case OpId::attention:
        return cpu::prepare_attention(call);
      case OpId::attention_grad:
        return cpu::prepare_attention_grad(call);
      case OpId::squared_norm:
        return cpu::prepare_squared_norm(call);
      default:
        return {};
    }
  }

 private:
  MatmulProvider provider_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(MatmulProvider provider) {
  if (provider == MatmulProvider::onednn && !has_onednn()) {
    fail(ErrorKind::usage,
         "engine.matmul: this program was built without oneDNN; install libdnnl-dev and build "
         "again, "
         "or choose \"eigen\"");
  }
  return std::make_unique<CpuBackend>(provider);
}

}  // namespace mora
