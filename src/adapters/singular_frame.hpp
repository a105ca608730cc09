// Orthonormal rows from a singular value decomposition: how AsyLoRA's A starts.
#pragma once

#include "mora/core/random.hpp"
#include "mora/core/tensor.hpp"

namespace mora::adapters {

// The first r columns of V^T, transposed: frame[i, j] = v_j[i], v_j the right singular vector of
// the j-th largest singular value of `matrix` [m, n], m >= n. matrix: f64; frame: f64 [r, n], r <=
// n. The sign that a decomposition leaves open: row 0 of the frame is not negative.
void singular_frame(const Tensor& matrix, const Tensor& frame);

// The frame of a matrix [max(n, 4096), n] of numbers from U[0, 1), every column's sign drawn, too;
// frame: [r, n] of any floating type. MoRA authors' train.py:566-583, whose matrix lies the other
// way, so that their code fails for n < 4096; for others it has the same distribution.
void random_singular_frame(const Random& random, const Tensor& frame);

}  // namespace mora::adapters
