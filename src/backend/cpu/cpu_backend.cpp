// The table of CPU kernels, by operation and what its activations are stored in.
#include <array>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/product.hpp"
#include "backend/cpu/row_sums.hpp"

namespace mora {

namespace {

struct Row {
  Kernel f32, f64, bf16;  // bf16: null where the operation takes none
};

constexpr std::array<Row, kOpCount> kKernels = {{
#define MORA_OP(name) {&cpu::name<float>, &cpu::name<double>, nullptr},
#define MORA_ACTIVATION_OP(name) {&cpu::name<float>, &cpu::name<double>, &cpu::name<bf16>},
#include "mora/ops/ops.def"
#undef MORA_OP
}};

class CpuBackend final : public Backend {
 public:
  explicit CpuBackend(MatmulProvider provider) : provider_(provider) {}

  std::string name() const override { return "cpu"; }
  bool multiplies_bf16() const override { return mora::multiplies_bf16(); }

  // Decided by the first input. Weights may be narrow, too, and do not come first in an operation
  // on activations.
  Kernel kernel(const OpCall& call) const override {
    const Row& row = kKernels[static_cast<size_t>(call.op)];
    if (call.in[0].dtype == DType::bf16 && row.bf16 != nullptr) return row.bf16;
    return call.in[0].dtype == DType::f64 ? row.f64 : row.f32;
  }

  Prepared prepare(const OpCall& call) const override {
    switch (call.op) {
      case OpId::matmul:
        return cpu::prepare_matmul(call, provider_);
      case OpId::matmul_sum:
        return cpu::prepare_matmul_sum(call, provider_);
      case OpId::linear_cross_entropy:
        return cpu::prepare_linear_cross_entropy(call, provider_);
      case OpId::rms_norm_grad:
        return cpu::prepare_rms_norm_grad(call);
      case OpId::attention:
        return cpu::prepare_attention(call, provider_);
      case OpId::attention_grad:
        return cpu::prepare_attention_grad(call, provider_);
      case OpId::squared_norm:
        return cpu::prepare_squared_norm(call);
      case OpId::unfold:
        return cpu::prepare_unfold(call);
      case OpId::block_product:
        return cpu::prepare_block_product(call, provider_);
      case OpId::block_product_grad:
        return cpu::prepare_block_product_grad(call, provider_);
      case OpId::matmul_block_product:
        return cpu::prepare_matmul_block_product(call, provider_);
      case OpId::fold:
      case OpId::rotate_blocks:
        return cpu::prepare_row_sums(call);
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
