// Matrix products behind one interface with two providers. A product is prepared once (a library's
// primitive, its scratch memory) and run many times without allocating.
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"

namespace mora::cpu {

enum class Addend { none, result };  // result: C is added to what C holds

// C[m, n] = alpha * op(A) * op(B) (+ C), row-major and contiguous.
struct ProductShape {
  int64_t m, k, n;
  Transpose ta = Transpose::no;
  Transpose tb = Transpose::no;
  double alpha = 1.0;
  Addend addend = Addend::none;
  DType dtype = DType::f32;    // of A and C
  DType b_dtype = DType::f32;  // stored_only() when dtype is f32: B is widened into scratch first
};

class Product {
 public:
  virtual ~Product() = default;
  virtual size_t scratch_bytes() const { return 0; }
  virtual void run(const void* a, const void* b, void* c, void* scratch) const = 0;
};

// Never null; empty dimensions, widening and the choice of the provider are handled here.
std::unique_ptr<Product> prepare_product(const ProductShape& shape, MatmulProvider provider);

// The providers. Dimensions are positive, b_dtype equals dtype. onednn_product returns null for
// what it does not do.
std::unique_ptr<Product> eigen_product(const ProductShape& shape);
std::unique_ptr<Product> onednn_product(const ProductShape& shape);

}  // namespace mora::cpu
