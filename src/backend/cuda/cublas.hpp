// cuBLASLt, opened with the device rather than linked: the library alone takes 200 MiB and a tenth
// of a second, which a run on the processor must not pay.
#pragma once

#include <cublasLt.h>

namespace mora::cuda {

// What we use of it.
#define MORA_CUBLAS_FUNCTIONS(F)          \
  F(cublasLtCreate)                       \
  F(cublasLtGetStatusString)              \
  F(cublasLtMatmul)                       \
  F(cublasLtMatmulAlgoGetHeuristic)       \
  F(cublasLtMatmulDescCreate)             \
  F(cublasLtMatmulDescDestroy)            \
  F(cublasLtMatmulDescSetAttribute)       \
  F(cublasLtMatmulPreferenceCreate)       \
  F(cublasLtMatmulPreferenceDestroy)      \
  F(cublasLtMatmulPreferenceSetAttribute) \
  F(cublasLtMatrixLayoutCreate)           \
  F(cublasLtMatrixLayoutDestroy)

struct Cublas {
#define MORA_CUBLAS_MEMBER(name) decltype(&::name) name;
  MORA_CUBLAS_FUNCTIONS(MORA_CUBLAS_MEMBER)
#undef MORA_CUBLAS_MEMBER
};

// Opens it at the first call. Error(usage) where it is not installed.
const Cublas& cublas();

}  // namespace mora::cuda
