// MoRA's blocks of features, a block of some rows at a time: x cut (or circularly extended) to
// blocks of R features, X[b][c] = x[(b R + c) mod in], each turned by its row (cos, sin) of the
// table:
//   a[c]       = X[b][c] * cos[c] - X[b][c + R/2] * sin[c]                            for c < R/2
//   a[c + R/2] = X[b][c + R/2] * cos[c] + X[b][c] * sin[c]
#pragma once

#include <algorithm>

#include "backend/cpu/row_sums.hpp"

namespace mora::cpu {

// Rows, `stride` elements apart.
template <class S>
struct RowsAt {
  S* data;
  int64_t stride;

  S* operator[](int64_t row) const { return data + row * stride; }
};

struct FeatureRange {
  int64_t begin, end;
};

// T: of the table and of sums.
template <class T>
struct TurnedBlocks {
  const T* table;  // [count, width]
  int64_t count, width, features;

  int64_t positions() const { return count * width; }

  // a[width] = block b of x
  template <class S, class A>
  void turn(int64_t b, int64_t rows, RowsAt<const S> x, RowsAt<A> a) const {
    const int64_t half = width / 2;
    for (int64_t c = 0; c < half;) {
      const int64_t low = (b * width + c) % features, high = (b * width + half + c) % features;
      const int64_t length = std::min({half - c, features - low, features - high});
      const T *cosine = table + b * width + c, *sine = cosine + half;
      for (int64_t row = 0; row < rows; ++row) {
        const S *us = x[row] + low, *vs = x[row] + high;
        A *first = a[row] + c, *second = first + half;
        each_vector<T>(length, [=](int64_t i, int64_t k) {
          const Vec<T> u = load(us + i, k), v = load(vs + i, k), cos = load(cosine + i, k),
                       sin = load(sine + i, k);
          store(first + i, u * cos - v * sin, k);
          store(second + i, v * cos + u * sin, k);
        });
      }
      c += length;
    }
  }

  // x += the transpose of turn(), for the features in range. Those of low and of high numbers one
  // after the other, as they may be the same.
  template <class A, class C>
  void add_turned_back(int64_t b, int64_t rows, RowsAt<const A> a, RowsAt<C> x,
                       const FeatureRange& range) const {
    const int64_t half = width / 2;
    const T *cosine = table + b * width, *sine = cosine + half;
    each_run(b * width, range, [&](int64_t feature, int64_t c, int64_t n) {
      for (int64_t row = 0; row < rows; ++row) {
        const A* from = a[row] + c;
        add_vectors(x[row] + feature, n, [=](int64_t i, int64_t k) {
          return load(from + i, k) * load(cosine + c + i, k) +
                 load(from + half + i, k) * load(sine + c + i, k);
        });
      }
    });
    each_run(b * width + half, range, [&](int64_t feature, int64_t c, int64_t n) {
      for (int64_t row = 0; row < rows; ++row) {
        const A* from = a[row] + c;
        add_vectors(x[row] + feature, n, [=](int64_t i, int64_t k) {
          return load(from + half + i, k) * load(cosine + c + i, k) -
                 load(from + i, k) * load(sine + c + i, k);
        });
      }
    });
  }

 private:
  // Visits the features in range that the R/2 positions from `first` on belong to, as runs
  // f(feature, c, length): feature + i is that of position first + c + i.
  template <class Visit>
  void each_run(int64_t first, const FeatureRange& range, const Visit& visit) const {
    const int64_t half = width / 2;
    for (int64_t c = 0; c < half;) {
      const int64_t feature = (first + c) % features,
                    length = std::min(half - c, features - feature);
      const int64_t begin = std::max(range.begin, feature),
                    end = std::min(range.end, feature + length);
      if (begin < end) visit(begin, c + begin - feature, end - begin);
      c += length;
    }
  }
};

}  // namespace mora::cpu
