// The algebra of updates: thin factors, singular values, and the best update of a given rank.
//
// All of it is in f64. Structure is found in the values and used, which changes no singular value:
// equal rows (or columns) become one times the root of their number, and what falls apart into
// blocks is taken apart. So MoRA's updates cost what their square matrices cost.
//
// Accuracy: singular values are right to about 1e-15 of the largest; where a block's smaller side
// is above kGramSide they come from its Gram matrix, and are right to about 1e-8 of the largest.
#pragma once

#include <vector>

#include "mora/core/tensor.hpp"
#include "mora/nn/linear.hpp"

namespace mora {

inline constexpr int64_t kGramSide = 512;

// delta = b a: b [out, k], a [k, in], both f64.
struct LowRank {
  OwnedTensor b, a;
};

// The exact factors of a layer whose adapter is factored() and has f64 parameters.
LowRank low_rank_of(const Linear& linear);

bool is_finite(const Tensor& tensor);  // of floating point

// Largest first; as many as the smallest of out, in and k. The values must be finite.
std::vector<double> singular_values(const LowRank& update);
std::vector<double> singular_values(const Tensor& matrix);  // f64 [out, in]

// The best approximation of a rank (Eckart and Young 1936), the singular values divided evenly
// between the factors.
struct Truncated {
  LowRank factors;   // k = rank; zero beyond the update's own rank
  double norm = 0;   // Frobenius norm of the update
  double error = 0;  // Frobenius norm of what is left out
};
Truncated truncate(const LowRank& update, int64_t rank);
Truncated truncate(const Tensor& matrix, int64_t rank);

}  // namespace mora
