// Matrices in another type: rounded to bf16, or widened.
#pragma once

#include "mora/core/dtype.hpp"

namespace mora::cuda {

struct StoredRows {
  const void* data;
  DType dtype;
  int64_t rows, columns, stride;
};

// f32 to bf16, or bf16 or f16 to f32; `to` is packed.
void convert_rows(const StoredRows& from, void* to);

}  // namespace mora::cuda
