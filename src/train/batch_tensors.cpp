#include "mora/train/batch_tensors.hpp"

#include <algorithm>

namespace mora {

namespace {

template <class T>
void scale_into(std::span<const float> from, double factor, std::span<T> to) {
  std::ranges::transform(from, to.begin(),
                         [=](float w) { return static_cast<T>(static_cast<double>(w) * factor); });
}

}  // namespace

BatchTensors::BatchTensors(int64_t capacity, DType working)
    : tokens({DType::i32, {capacity}}),
      positions({DType::i32, {capacity}}),
      segment_start({DType::i32, {capacity}}),
      labels({DType::i32, {capacity}}),
      weights({working, {capacity}}) {}

void BatchTensors::fill(const Batch& batch, double factor) {
  std::ranges::copy(batch.tokens, tokens.as<int32_t>().begin());
  std::ranges::copy(batch.positions, positions.as<int32_t>().begin());
  std::ranges::copy(batch.segment_start, segment_start.as<int32_t>().begin());
  std::ranges::copy(batch.labels, labels.as<int32_t>().begin());
  if (weights.view().dtype() == DType::f64) {
    scale_into(std::span<const float>(batch.weights), factor, weights.as<double>());
  } else {
    scale_into(std::span<const float>(batch.weights), factor, weights.as<float>());
  }
}

}  // namespace mora
