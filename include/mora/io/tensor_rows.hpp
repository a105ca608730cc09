// A matrix that is read row by row, wherever it comes from, and written in any type that this
// program writes: how a conversion streams a model without holding a tensor of it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "mora/io/gguf.hpp"
#include "mora/io/safetensors.hpp"

namespace mora {

struct TensorRows {
  std::string name;  // for errors: file and tensor
  int64_t rows = 0, row = 0;
  // Fills the row's values. Called from several threads at once.
  std::function<void(int64_t row, std::span<float> into)> read;
};

// The rows of a tensor, its last dimension being the row. They refer to the file. Error(data) if
// its type is none that can be read: those of GGUF, or F32, F16 and BF16 of safetensors.
TensorRows rows_of(const GgufFile& file, const std::string& name);
TensorRows rows_of(const SafetensorsFile& file, const std::string& name);
TensorRows rows_of(std::string name, const Tensor& tensor);  // f32, bf16 or f64 in memory

// The same rows in another order: row i of the result is row order(i).
TensorRows reordered(TensorRows rows, std::function<int64_t(int64_t)> order);

// All values in the type `to`, in pieces of a few MiB at most. Error(data) names the tensor if a
// value is not finite or too large for the type.
void write_rows(const TensorRows& rows, const GgmlType& to, const ByteSink& sink);

}  // namespace mora
