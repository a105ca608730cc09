// C (+)= A * B for blocks that fit the cache, on one thread, without packing or allocation: the
// products inside attention. A is read one element at a time and may have any strides (so a
// transposed A costs nothing); rows of B and C are contiguous.
#pragma once

#include "backend/cpu/simd.hpp"

namespace mora::cpu {

template <class T>
struct Strided {
  const T* data;
  int64_t row, col;  // element (i, p) is data[i * row + p * col]
};

enum class Store { assign, add };

namespace detail {

// Of a tile of sums in registers. With AVX-512 its rows divide the blocks: a rest of few rows waits
// for its own sums.
#if defined(__AVX512F__)
constexpr int kTileRows = 8, kTileVecs = 2;  // 16 of 32 registers
#elif defined(__AVX__)
constexpr int kTileRows = 3, kTileVecs = 2;  // 12 of 16 registers, two a vector
#else
constexpr int kTileRows = 3, kTileVecs = 1;  // 12 of 16 registers, four a vector
#endif

// kRows x kVecs vectors of C, summed over p in order.
template <class T, int kRows, int kVecs>
inline void tile(Strided<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t k,
                 Store store_as) {
  Vec<T> acc[kRows][kVecs] = {};
  for (int64_t p = 0; p < k; ++p) {
    Vec<T> bv[kVecs];
    for (int v = 0; v < kVecs; ++v) bv[v] = load(b + p * ldb + v * kLanes<T>);
    for (int r = 0; r < kRows; ++r) {
      const T s = a.data[r * a.row + p * a.col];
      for (int v = 0; v < kVecs; ++v) acc[r][v] += s * bv[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVecs; ++v) {
      T* at = c + r * ldc + v * kLanes<T>;
      store(at, store_as == Store::add ? load(at) + acc[r][v] : acc[r][v]);
    }
  }
}

template <class T>
inline void column(Strided<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t m, int64_t k,
                   Store store_as) {
  for (int64_t i = 0; i < m; ++i) {
    T s = 0;
    for (int64_t p = 0; p < k; ++p) s += a.data[i * a.row + p * a.col] * b[p * ldb];
    c[i * ldc] = store_as == Store::add ? c[i * ldc] + s : s;
  }
}

template <class T, int kVecs>
inline void panel(Strided<T> a, const T* b, int64_t ldb, T* c, int64_t ldc, int64_t m, int64_t k,
                  Store store_as) {
  int64_t i = 0;
  auto at = [&](int64_t row) { return Strided<T>{a.data + row * a.row, a.row, a.col}; };
  for (; i + kTileRows <= m; i += kTileRows)
    tile<T, kTileRows, kVecs>(at(i), b, ldb, c + i * ldc, ldc, k, store_as);
  for (; i + 2 <= m; i += 2) tile<T, 2, kVecs>(at(i), b, ldb, c + i * ldc, ldc, k, store_as);
  for (; i < m; ++i) tile<T, 1, kVecs>(at(i), b, ldb, c + i * ldc, ldc, k, store_as);
}

}  // namespace detail

// C[m, n] (+)= A[m, k] * B[k, n]
template <class T>
inline void block_gemm(int64_t m, int64_t n, int64_t k, Strided<T> a, const T* b, int64_t ldb, T* c,
                       int64_t ldc, Store store_as) {
  int64_t j = 0;
  constexpr int64_t columns = detail::kTileVecs * kLanes<T>;
  for (; j + columns <= n; j += columns)
    detail::panel<T, detail::kTileVecs>(a, b + j, ldb, c + j, ldc, m, k, store_as);
  for (; j + kLanes<T> <= n; j += kLanes<T>)
    detail::panel<T, 1>(a, b + j, ldb, c + j, ldc, m, k, store_as);
  for (; j < n; ++j) detail::column(a, b + j, ldb, c + j, ldc, m, k, store_as);
}

}  // namespace mora::cpu
