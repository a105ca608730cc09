// The last step of a sum in bf16, made so far in f32: a thin product is added while the sum is
// read, so that it costs no pass over memory of its own, and what is written is rounded once.
#pragma once

#include "backend/cuda/product.hpp"

namespace mora::cuda {

// Up to this depth a thin product takes less time than reading the sum does.
constexpr int64_t kMostThin = 64;

inline bool suits_thin_sum(const ProductShape& s) {
  return s.dtype == DType::bf16 && s.ta == Transpose::no && s.k <= kMostThin;
}

// y = z + alpha * a * op(b) + c                      z, c, y: [M, N]  a: [M, K]  b: [K, N] before
// op
struct ThinSum {
  const float* z;
  const bf16* c;  // or null
  bf16* y;
};

// A product of depth 0 adds nothing. Of `product`, c_dtype does not matter.
void add_thin_product(const ThinSum& sum, const ProductShape& product, const bf16* a,
                      const void* b);

}  // namespace mora::cuda
