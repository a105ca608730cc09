// The products of operations, for those that contain one.
#pragma once

#include "backend/cpu/product.hpp"

namespace mora::cpu {

// Of a term whose operands are inputs `first` and the next of a call, from the operands: the shape
// of the result may be an alias of the product's.
ProductShape shape_of(const OpCall& call, size_t first, const MatmulTerm& term, bool adds);

// Products add to what the result holds: copies `from` there if it is not the same memory.
void copy_addend(const Tensor& from, const Tensor& to);

}  // namespace mora::cpu
