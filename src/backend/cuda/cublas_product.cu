// Products by cuBLASLt: described once, with the algorithms that make them.
//
// The library's matrices are column-major. Ours are their transposes, so that it is asked for
// D^T = op(B)^T op(A)^T + C^T: A and B change places, and stay transposed or not as they were.
#include "backend/cuda/cublas.hpp"
#include "backend/cuda/device.hpp"
#include "backend/cuda/product.hpp"

namespace mora::cuda {

namespace {

constexpr size_t kMostWorkspace = 32 << 20;  // what NVIDIA recommends for Hopper
constexpr size_t kVector = 16;               // bytes that a thread moves at once

void check(cublasStatus_t status, std::string_view doing) {
  if (status != CUBLAS_STATUS_SUCCESS)
    fail(ErrorKind::internal, "cuBLASLt, ", doing, ": ", cublas().cublasLtGetStatusString(status));
}

// Never destroyed: the driver may be gone when static objects are.
cublasLtHandle_t library() {
  static const cublasLtHandle_t handle = [] {
    cublasLtHandle_t made = nullptr;
    check(cublas().cublasLtCreate(&made), "starting");
    return made;
  }();
  return handle;
}

template <auto destroy>
struct Destroy {
  template <class T>
  void operator()(T* made) const {
    (cublas().*destroy)(made);
  }
};
template <class Handle, auto destroy>
using Owned = std::unique_ptr<std::remove_pointer_t<Handle>, Destroy<destroy>>;
using Description = Owned<cublasLtMatmulDesc_t, &Cublas::cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, &Cublas::cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, &Cublas::cublasLtMatmulPreferenceDestroy>;

cudaDataType_t type_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::bf16:
      return CUDA_R_16BF;
    default:
      return CUDA_R_32F;
  }
}

// COMPUTE_32F multiplies f32 as f32: TF32 would lose 13 bits, and the parity with other programs.
Description describe(const ProductShape& s) {
  const bool f64 = s.dtype == DType::f64;
  cublasLtMatmulDesc_t made = nullptr;
  check(cublas().cublasLtMatmulDescCreate(&made, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                          f64 ? CUDA_R_64F : CUDA_R_32F),
        "describing a product");
  Description description(made);
  const auto set = [&](cublasLtMatmulDescAttributes_t which, Transpose t) {
    const cublasOperation_t operation = t == Transpose::yes ? CUBLAS_OP_T : CUBLAS_OP_N;
    check(cublas().cublasLtMatmulDescSetAttribute(made, which, &operation, sizeof operation),
          "describing a product");
  };
  set(CUBLASLT_MATMUL_DESC_TRANSA, s.tb);
  set(CUBLASLT_MATMUL_DESC_TRANSB, s.ta);
  return description;
}

struct Stored {
  int64_t rows, columns, stride;  // row-major
};

Layout layout_of(DType dtype, const Stored& matrix) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublas().cublasLtMatrixLayoutCreate(&made, type_of(dtype),
                                            static_cast<uint64_t>(matrix.columns),
                                            static_cast<uint64_t>(matrix.rows), matrix.stride),
        "describing a matrix");
  return Layout(made);
}

Stored stored(Transpose t, int64_t rows, int64_t columns) {
  if (t == Transpose::yes) std::swap(rows, columns);
  return {rows, columns, columns};
}

// Partial sums of a long sum may go through the workspace, but not through D, where they would be
// rounded to its type.
Preference prefer(size_t input_alignment, size_t result_alignment) {
  cublasLtMatmulPreference_t made = nullptr;
  check(cublas().cublasLtMatmulPreferenceCreate(&made), "choosing an algorithm");
  Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t which, auto value) {
    check(cublas().cublasLtMatmulPreferenceSetAttribute(made, which, &value, sizeof value),
          "choosing an algorithm");
  };
  const auto input = static_cast<uint32_t>(input_alignment),
             result = static_cast<uint32_t>(result_alignment);
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kMostWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE});
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, input);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, input);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, result);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, result);
  return preference;
}

constexpr size_t kPlanned = 64;     // alignment of what a plan places
constexpr size_t kWorkspace = 256;  // and of the workspace that cuBLASLt asks for

class CublasProduct final : public Product {
 public:
  explicit CublasProduct(const ProductShape& s)
      : shape_(s),
        description_(describe(s)),
        a_(layout_of(s.dtype, stored(s.ta, s.m, s.k))),
        b_(layout_of(s.dtype, stored(s.tb, s.k, s.n))),
        c_(layout_of(s.c_dtype, {s.m, s.n, s.c_stride == 0 ? s.n : s.c_stride})),
        for_aligned_(choose(kVector, kVector)),
        for_any_(choose(size_of(s.dtype), size_of(s.c_dtype))) {
    if (for_aligned_.state != CUBLAS_STATUS_SUCCESS) refuse();
  }

  size_t scratch_bytes() const override {
    const size_t most = std::max(for_aligned_.workspaceSize, for_any_.workspaceSize);
    return most == 0 ? 0 : most + kWorkspace - kPlanned;
  }

  // The same algorithm in every run, as addresses keep their alignment when memory moves.
  void run(const ProductOperands& o, void* scratch) const override {
    const auto address = [](const void* p) { return reinterpret_cast<uintptr_t>(p); };
    const bool aligned = (address(o.a) | address(o.b) | address(o.c) | address(o.d)) % kVector == 0;
    const Algorithm& chosen = aligned ? for_aligned_ : for_any_;
    cublasStatus_t status = chosen.state;
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = shape_.dtype == DType::f64 ? start<double>(o, chosen, scratch)
                                          : start<float>(o, chosen, scratch);
    }
    if (status != CUBLAS_STATUS_SUCCESS)
      note_failure("cuBLASLt, starting a product", cublas().cublasLtGetStatusString(status));
  }

 private:
  using Algorithm = cublasLtMatmulHeuristicResult_t;

  // Its state says whether there is one.
  Algorithm choose(size_t input_alignment, size_t result_alignment) const {
    const Preference preference = prefer(input_alignment, result_alignment);
    Algorithm best{};
    int found = 0;
    const cublasStatus_t status = cublas().cublasLtMatmulAlgoGetHeuristic(
        library(), description_.get(), b_.get(), a_.get(), c_.get(), c_.get(), preference.get(), 1,
        &best, &found);
    if (status != CUBLAS_STATUS_SUCCESS || found == 0) {
      best = {};
      best.state = status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : status;
    }
    return best;
  }

  [[noreturn]] void refuse() const {
    const auto mark = [](Transpose t) { return t == Transpose::yes ? "^T" : ""; };
    fail(ErrorKind::internal, "cuBLASLt has no algorithm for a product of ", shape_.dtype, " into ",
         shape_.c_dtype, ", [", shape_.m, ", ", shape_.k, "]", mark(shape_.ta), " x [", shape_.k,
         ", ", shape_.n, "]", mark(shape_.tb), ": ",
         cublas().cublasLtGetStatusString(for_aligned_.state));
  }

  template <class T>
  cublasStatus_t start(const ProductOperands& o, const Algorithm& chosen, void* scratch) const {
    const auto alpha = static_cast<T>(shape_.alpha), beta = static_cast<T>(o.c == nullptr ? 0 : 1);
    return cublas().cublasLtMatmul(library(), description_.get(), &alpha, o.b, b_.get(), o.a,
                                   a_.get(), &beta, o.c == nullptr ? o.d : o.c, c_.get(), o.d,
                                   c_.get(), &chosen.algo, workspace(scratch, chosen),
                                   chosen.workspaceSize, stream());
  }

  static void* workspace(void* scratch, const Algorithm& chosen) {
    if (chosen.workspaceSize == 0) return nullptr;
    const auto address = reinterpret_cast<uintptr_t>(scratch);
    return reinterpret_cast<void*>((address + kWorkspace - 1) / kWorkspace * kWorkspace);
  }

  ProductShape shape_;
  Description description_;
  Layout a_, b_, c_;
  // Bound memory may start at any element, what is planned starts at multiples of 64 bytes.
  Algorithm for_aligned_, for_any_;
};

}  // namespace

std::unique_ptr<Product> cublas_product(const ProductShape& shape) {
  return std::make_unique<CublasProduct>(shape);
}

}  // namespace mora::cuda
