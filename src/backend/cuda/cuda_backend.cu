// The table of CUDA kernels, by operation and what its activations are stored in.
#include <array>

#include "backend/cuda.hpp"
#include "backend/cuda/cublas.hpp"
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/memory.hpp"
#include "backend/cuda/replay.hpp"

namespace mora {

namespace {

struct CudaRow {
  Kernel f32, f64, bf16;  // bf16: null where the operation takes none
};

constexpr std::array<CudaRow, kOpCount> kKernels = {{
#define MORA_OP(name) {&cuda::name<float>, &cuda::name<double>, nullptr},
#define MORA_ACTIVATION_OP(name) {&cuda::name<float>, &cuda::name<double>, &cuda::name<bf16>},
#include "mora/ops/ops.def"
#undef MORA_OP
}};

class CudaBackend final : public Backend {
 public:
  CudaBackend() {
    cuda::open_device();
    cuda::cublas();  // what is missing is said before anything else
  }

  std::string name() const override { return cuda::device_name(); }
  bool multiplies_bf16() const override { return true; }
  std::shared_ptr<MemorySource> memory() const override { return cuda::device_memory(); }
  void wait() const override { cuda::wait(); }
  std::unique_ptr<Replay> make_replay() const override { return cuda::make_graph_replay(); }

  // Decided by the first input, as on the CPU.
  Kernel kernel(const OpCall& call) const override {
    const CudaRow& row = kKernels[static_cast<size_t>(call.op)];
    if (call.in[0].dtype == DType::bf16 && row.bf16 != nullptr) return row.bf16;
    return call.in[0].dtype == DType::f64 ? row.f64 : row.f32;
  }

  Prepared prepare(const OpCall& call) const override {
    switch (call.op) {
      case OpId::matmul:
        return cuda::prepare_matmul(call);
      case OpId::matmul_sum:
        return cuda::prepare_matmul_sum(call);
      case OpId::block_product:
        return cuda::prepare_block_product(call);
      case OpId::block_product_grad:
        return cuda::prepare_block_product_grad(call);
      case OpId::matmul_block_product:
        return cuda::prepare_matmul_block_product(call);
      case OpId::linear_cross_entropy:
        return cuda::prepare_linear_cross_entropy(call);
      case OpId::rms_norm_grad:
        return cuda::prepare_rms_norm_grad(call);
      case OpId::attention:
        return cuda::prepare_attention(call);
      case OpId::attention_grad:
        return cuda::prepare_attention_grad(call);
      case OpId::sum_rows:
        return cuda::prepare_sum_rows(call);
      case OpId::squared_norm:
        return cuda::prepare_squared_norm(call);
      case OpId::dora_grad:
        return cuda::prepare_dora_grad(call);
      default:
        return {};
    }
  }
};

}  // namespace

std::unique_ptr<Backend> make_cuda_backend() {
  return std::make_unique<CudaBackend>();
}

std::string cuda_version() {
  return str("CUDA ", CUDART_VERSION / 1000, ".", CUDART_VERSION % 1000 / 10);
}

}  // namespace mora
