#include <cublasLt.h>

#include <algorithm>
#include <vector>

#include "mora/core/dtype.hpp"

namespace {

using mora::bf16;
using mora::value_as;
using Layout = cublasLtMatrixLayoutOpaque_t;

// What every algorithm here asks for, so that somebody has to plan it.
constexpr size_t kWorkspace = 1000;

size_t bytes_of(cudaDataType_t type) {
  return type == CUDA_R_64F ? 8 : type == CUDA_R_32F ? 4 : 2;
}

template <class T>
T element(const void* data, cudaDataType_t type, size_t at) {
  switch (type) {
    case CUDA_R_64F:
      return value_as<T>(static_cast<const double*>(data)[at]);
    case CUDA_R_32F:
      return value_as<T>(static_cast<const float*>(data)[at]);
    default:
      return value_as<T>(static_cast<const bf16*>(data)[at]);
  }
}
template <class T>
void set_element(void* data, cudaDataType_t type, size_t at, T value) {
  switch (type) {
    case CUDA_R_64F:
      static_cast<double*>(data)[at] = value_as<double>(value);
      break;
    case CUDA_R_32F:
      static_cast<float*>(data)[at] = value_as<float>(value);
      break;
    default:
      static_cast<bf16*>(data)[at] = value_as<bf16>(value);
  }
}

enum class Lines { rows, columns };

// The rows or columns of op(matrix), one after the other.
template <class T>
std::vector<T> lines(const void* data, const Layout& m, cublasOperation_t op, Lines which) {
  const bool along = (which == Lines::columns) == (op == CUBLAS_OP_N);  // of memory
  const size_t count = along ? m.columns : m.rows, length = along ? m.rows : m.columns,
               stride = static_cast<size_t>(m.stride);
  std::vector<T> all(count * length);
  for (size_t i = 0; i < count; ++i) {
    for (size_t k = 0; k < length; ++k)
      all[i * length + k] = element<T>(data, m.type, along ? i * stride + k : k * stride + i);
  }
  return all;
}

// In many partial sums, as on a device.
template <class T>
T dot(const T* a, const T* b, size_t n) {
  constexpr size_t kSums = 32;
  T sums[kSums] = {};
  size_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (size_t j = 0; j < kSums; ++j) sums[j] += a[i + j] * b[i + j];
  }
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  T total = 0;
  for (const T sum : sums) total += sum;
  return total;
}

template <class T>
struct Call {
  cublasLtMatmulDescOpaque_t description;
  std::array<Layout, 4> layouts;
  T alpha, beta;
  const void *a, *b, *c;
  void* d;

  void run() const {
    const std::vector<T> rows = lines<T>(a, layouts[0], description.a, Lines::rows),
                         columns = lines<T>(b, layouts[1], description.b, Lines::columns);
    const Layout& result = layouts[3];
    const size_t k = rows.size() / result.rows;
    for (size_t j = 0; j < result.columns; ++j) {
      for (size_t i = 0; i < result.rows; ++i) {
        const size_t at = j * static_cast<size_t>(result.stride) + i;
        T x = alpha * dot(&rows[i * k], &columns[j * k], k);
        if (beta != 0) x += beta * element<T>(c, result.type, at);
        set_element(d, result.type, at, x);
      }
    }
  }
};

struct Size {
  uint64_t rows, columns;
};
Size size_of(const Layout& m, cublasOperation_t op) {
  return op == CUBLAS_OP_N ? Size{m.rows, m.columns} : Size{m.columns, m.rows};
}

// Of the combinations that cuBLASLt knows, those in use.
bool types_fit(const cublasLtMatmulDescOpaque_t& d, const std::array<Layout, 4>& m) {
  const cudaDataType_t in = m[0].type, out = m[3].type;
  if (m[1].type != in || m[2].type != out) return false;
  if (in == CUDA_R_64F)
    return out == in && d.compute == CUBLAS_COMPUTE_64F && d.scale == CUDA_R_64F;
  return d.compute == CUBLAS_COMPUTE_32F && d.scale == CUDA_R_32F &&
         (out == CUDA_R_32F || (out == CUDA_R_16BF && in == out));
}

bool shapes_fit(const cublasLtMatmulDescOpaque_t& d, const std::array<Layout, 4>& m) {
  const Size a = size_of(m[0], d.a), b = size_of(m[1], d.b);
  const bool strides = std::ranges::all_of(m, [](const Layout& l) {
    return l.rows > 0 && l.columns > 0 && l.stride >= static_cast<int64_t>(l.rows);
  });
  return strides && a.columns == b.rows && m[3].rows == a.rows && m[3].columns == b.columns &&
         m[2] == m[3];
}

template <class T>
cublasStatus_t make(T** made, const T& value) {
  *made = new T(value);
  return CUBLAS_STATUS_SUCCESS;
}
template <class T>
cublasStatus_t destroy(T* made) {
  delete made;
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t assign(T& to, const void* value, size_t bytes) {
  if (bytes != sizeof(T)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&to, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

const char* cublasLtGetStatusString(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "an invalid value";
}
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(1);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* made, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return make(made, {compute, scale, CUBLAS_OP_N, CUBLAS_OP_N});
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t made) {
  return destroy(made);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t description,
                                              cublasLtMatmulDescAttributes_t which,
                                              const void* value, size_t bytes) {
  const bool a = which == CUBLASLT_MATMUL_DESC_TRANSA;
  return assign(a ? description->a : description->b, value, bytes);
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* made, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t stride) {
  return make(made, {type, rows, columns, stride});
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t made) {
  return destroy(made);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* made) {
  return make(made, {0, {256, 256, 256, 256}});
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t made) {
  return destroy(made);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t which,
                                                    const void* value, size_t bytes) {
  uint32_t schemes = 0;
  switch (which) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return assign(preference->workspace, value, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return assign(schemes, value, bytes);
    default:
      return assign(preference->alignment.at(which - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES),
                    value, bytes);
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t description,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int most,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  *found = 0;
  const std::array<Layout, 4> layouts = {*a, *b, *c, *d};
  if (most < 1 || !shapes_fit(*description, layouts)) return CUBLAS_STATUS_INVALID_VALUE;
  if (!types_fit(*description, layouts)) return CUBLAS_STATUS_NOT_SUPPORTED;
  const size_t workspace = std::min(preference->workspace, kWorkspace);
  results[0] = {
      {*description, layouts, preference->alignment, workspace}, workspace, CUBLAS_STATUS_SUCCESS};
  *found = 1;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t description, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t) {
  const std::array<Layout, 4> layouts = {*a_layout, *b_layout, *c_layout, *d_layout};
  const auto aligned = [](const void* p, size_t bytes) {
    return p != nullptr && reinterpret_cast<uintptr_t>(p) % bytes == 0;
  };
  bool fits = layouts == algorithm->layouts && workspace_bytes >= algorithm->workspace &&
              (algorithm->workspace == 0 || aligned(workspace, 256)) && description->a == algorithm->description.a &&
              description->b == algorithm->description.b;
  const std::array<const void*, 4> data = {a, b, c, d};
  for (size_t i = 0; i < data.size(); ++i) {
    fits = fits && aligned(data[i], algorithm->alignment[i]) &&
           aligned(data[i], bytes_of(layouts[i].type));
  }
  if (!fits) return CUBLAS_STATUS_INVALID_VALUE;
  if (emulated::setting("products", 1) == 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  const auto enqueue = [&]<class T>(T) {
    const Call<T> call{*description,
                       layouts,
                       *static_cast<const T*>(alpha),
                       *static_cast<const T*>(beta),
                       a,
                       b,
                       c,
                       d};
    emulated::enqueue([=] {
      std::memset(workspace, 0xff, workspace_bytes);
      call.run();
    });
  };
  description->scale == CUDA_R_64F ? enqueue(double{}) : enqueue(float{});
  return CUBLAS_STATUS_SUCCESS;
}
