// BatchTensors: the bound memory through which packed batches reach a graph.
#pragma once

#include "mora/core/tensor.hpp"
#include "mora/data/batch.hpp"

namespace mora {

struct BatchTensors {
  OwnedTensor tokens, positions, segment_start, labels, weights;

  BatchTensors(int64_t capacity, DType working);
  // Copies the batch; every weight is multiplied by `factor`.
  void fill(const Batch& batch, double factor);
};

}  // namespace mora
