// The streaming softmax of attention with queries in the lanes: scores and sums stand transposed,
// queries along the rows, so that nothing is summed across lanes.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/cpu/attention_block.hpp"
#include "backend/cpu/simd.hpp"

namespace mora::cpu {

constexpr int64_t kLaneQueries = 128;  // of a block: numbers in a row of scores and of sums

// Scores that do not count: those of keys behind a query, where the first of m keys is `ahead` of
// the first query, and rows from m to `rows`.
template <class T>
void hide(T* scores, int64_t ahead, int64_t m, int64_t rows) {
  constexpr T kNever = -std::numeric_limits<T>::infinity();
  for (int64_t j = std::max<int64_t>(0, 1 - ahead); j < m; ++j)
    std::fill_n(scores + j * kLaneQueries, std::min(kLaneQueries, ahead + j), kNever);
  std::fill(scores + m * kLaneQueries, scores + rows * kLaneQueries, kNever);
}

// As many queries as a vector has lanes.
template <class T>
struct SoftmaxLanes {
  Vec<T> largest = Vec<T>{} - std::numeric_limits<T>::infinity(), total{};

  // The largest of the scores so far and of those of the next keys.
  Vec<T> top(const T* scores, int64_t keys) const {
    Vec<T> top = largest;
    for (int64_t j = 0; j < keys; ++j) top = larger(load(scores + j * kLaneQueries), top);
    return top;
  }

  // Weights that are relative to `top` add up to `sum`, those before shrink.
  void add(Vec<T> top, Vec<T> shrink, Vec<T> sum) {
    total = total * shrink + sum;
    largest = top;
  }
};

// sums[head_dim, lanes] *= shrink
template <class T>
void shrink_sums(T* sums, int64_t head_dim, Vec<T> shrink) {
  bool any = false;
  for (int64_t i = 0; i < kLanes<T>; ++i) any |= shrink[i] != T(1);
  if (!any) return;
  for (int64_t d = 0; d < head_dim; ++d)
    store(sums + d * kLaneQueries, shrink * load(sums + d * kLaneQueries));
}

// y = factor * sums of n queries from t on, of head h
template <class S>
void write_lanes(const AttentionView<S>& view, int64_t t, int64_t n, int64_t h,
                 const Working<S>* sums, Vec<Working<S>> factor, S* y) {
  using T = Working<S>;
  int64_t d = 0;
  if constexpr (std::is_same_v<T, float>) {
    for (; d + kLanes<T> <= view.head_dim; d += kLanes<T>) {
      Vec<T> rows[kLanes<T>];
      for (int64_t i = 0; i < kLanes<T>; ++i)
        rows[i] = factor * load(sums + (d + i) * kLaneQueries);
      transpose(rows);
      for (int64_t i = 0; i < n; ++i)
        store(y + (t + i) * view.width + h * view.head_dim + d, rows[i]);
    }
  }
  for (; d < view.head_dim; ++d) {
    const Vec<T> row = factor * load(sums + d * kLaneQueries);
    for (int64_t i = 0; i < n; ++i)
      y[(t + i) * view.width + h * view.head_dim + d] = value_as<S>(row[i]);
  }
}

}  // namespace mora::cpu
