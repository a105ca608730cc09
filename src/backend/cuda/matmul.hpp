// The products of operations, for those that contain one.
#pragma once

#include "backend/cuda/product.hpp"

namespace mora::cuda {

// Of a term whose operands are inputs `first` and the next of a call, from the operands: the shape
// of the result may be an alias of the product's.
ProductShape shape_of(const OpCall& call, size_t first, const MatmulTerm& term);

}  // namespace mora::cuda
