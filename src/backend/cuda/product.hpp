// Matrix products behind one interface. A product is prepared once (the library's algorithm, its
// scratch memory) and run many times.
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"

namespace mora::cuda {

// D[m, n] = alpha * op(A) * op(B) + C, row-major. Sums are made in f32, or in f64 where A is f64.
struct ProductShape {
  int64_t m, k, n;
  Transpose ta = Transpose::no;
  Transpose tb = Transpose::no;
  double alpha = 1.0;
  DType dtype = DType::f32;    // of A
  DType b_dtype = DType::f32;  // may be narrow when A is f32: B is widened, which is exact; and
                               // f32 when A is bf16: B is rounded
  DType c_dtype = DType::f32;  // of C and D: as A, or f32 when A is bf16
  int64_t c_stride = 0;        // from row to row of C and D; 0: n
};

struct ProductOperands {
  const void *a, *b;
  const void* c;  // may be d; null: nothing is added, and d is not read
  void* d;
};

class Product {
 public:
  virtual ~Product() = default;
  virtual size_t scratch_bytes() const { return 0; }
  virtual void run(const ProductOperands& operands, void* scratch) const = 0;
};

// Never null; empty dimensions and conversions are handled here. Error(internal) where the library
// has no algorithm.
std::unique_ptr<Product> prepare_product(const ProductShape& shape);

// cuBLASLt's. Dimensions are positive, b_dtype equals dtype.
std::unique_ptr<Product> cublas_product(const ProductShape& shape);

}  // namespace mora::cuda
