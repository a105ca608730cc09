// Blocks of attention in shared memory, for any type and head_dim: kRows queries against as many
// keys, by 16 x 16 threads. Thread (y, x) has kOwn rows of scores, y * kOwn + i, and kOwn columns
// spread over all, x + 16 j; of sums over D dimensions it has the same rows and packs of columns.
// What lies behind the last token or the last dimension is zero.
#pragma once

#include "backend/cuda/attention.hpp"
#include "backend/cuda/reduce.hpp"

namespace mora::cuda {

template <class T, int D>
struct AttentionTile {
  static constexpr int kSide = 16, kThreads = kSide * kSide;
  static constexpr int kRows = (sizeof(T) == 8 ? 32 : 64) / (D > 128 ? 2 : 1);
  static constexpr int kOwn = kRows / kSide, kDims = D / kSide, kN = kPack<T>;
  // Blocks of the forward kernel that share a multiprocessor.
  static constexpr int kResident = D <= 64 && sizeof(T) == 4 ? 2 : 1;
  // Neighbouring rows begin in different banks.
  static constexpr int kStride = D + kN, kScoreStride = kRows + kN;
  static constexpr int kElements = kRows * kStride, kScoreElements = kRows * kScoreStride;

  using Scores = T[kOwn][kOwn];
  using Sums = T[kOwn][kDims];

  static constexpr size_t bytes(int tiles) {
    return static_cast<size_t>(tiles * kElements + kScoreElements) * sizeof(T);
  }

  __device__ static int y() { return static_cast<int>(threadIdx.x) / kSide; }
  __device__ static int x() { return static_cast<int>(threadIdx.x) % kSide; }
  __device__ static int row(int i) { return y() * kOwn + i; }
  __device__ static int column(int j) { return x() + kSide * j; }
  __device__ static int dim(int e) { return e / kN * kSide * kN + x() * kN + e % kN; }

  __device__ static void clear(Sums& sums) {
    MORA_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      MORA_UNROLL
      for (int e = 0; e < kDims; ++e) sums[i][e] = 0;
    }
  }

  // tile[i, d] = factor * from[first + i, d]
  template <class S>
  __device__ static void load(const HeadRows<const S>& from, RowAccess access, int first, T factor,
                              T* tile) {
    if (access == RowAccess::packs) {
      load_packs<S, kPack<S>>(from, first, factor, tile);
    } else {
      load_packs<S, 1>(from, first, factor, tile);
    }
  }

  // out[i][j] = a[row(i)] . b[column(j)]
  __device__ static void multiply(const T* a, const T* b, int head_dim, Scores& out) {
    MORA_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      MORA_UNROLL
      for (int j = 0; j < kOwn; ++j) out[i][j] = 0;
    }
    for (int d = 0; d < head_dim; d += kN) {
      Pack<T, kN> p[kOwn], r[kOwn];
      MORA_UNROLL
      for (int i = 0; i < kOwn; ++i) {
        p[i] = pack<kN>(a + row(i) * kStride + d);
        r[i] = pack<kN>(b + column(i) * kStride + d);
      }
      MORA_UNROLL
      for (int e = 0; e < kN; ++e) {
        MORA_UNROLL
        for (int i = 0; i < kOwn; ++i) {
          MORA_UNROLL
          for (int j = 0; j < kOwn; ++j) out[i][j] += p[i].v[e] * r[j].v[e];
        }
      }
    }
  }

  __device__ static void store(const Scores& scores, T* to) {
    MORA_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      MORA_UNROLL
      for (int j = 0; j < kOwn; ++j) to[row(i) * kScoreStride + column(j)] = scores[i][j];
    }
  }

  // sums[i] += sum over s of weights[row(i), s] * b[s]
  __device__ static void add(const T* weights, const T* b, Sums& sums) {
    for (int s = 0; s < kRows; s += kN) {
      Pack<T, kN> w[kOwn];
      MORA_UNROLL
      for (int i = 0; i < kOwn; ++i) w[i] = pack<kN>(weights + row(i) * kScoreStride + s);
      MORA_UNROLL
      for (int e = 0; e < kN; ++e) {
        T own[kOwn];
        MORA_UNROLL
        for (int i = 0; i < kOwn; ++i) own[i] = w[i].v[e];
        add_row(own, b + (s + e) * kStride, sums);
      }
    }
  }

  // sums[i] += sum over t of weights[t, row(i)] * b[t]
  __device__ static void add_transposed(const T* weights, const T* b, Sums& sums) {
    for (int t = 0; t < kRows; ++t) {
      const Pack<T, kOwn> w = pack<kOwn>(weights + t * kScoreStride + row(0));
      add_row(w.v, b + t * kStride, sums);
    }
  }

  // to[first + row(i)] = sums[i]
  template <class S>
  __device__ static void write(const Sums& sums, int first, const HeadRows<S>& to) {
    MORA_UNROLL
    for (int i = 0; i < kOwn; ++i) {
      const int t = first + row(i);
      MORA_UNROLL
      for (int e = 0; e < kDims; ++e) {
        if (t < to.tokens && dim(e) < to.head_dim) to.row(t)[dim(e)] = value_as<S>(sums[i][e]);
      }
    }
  }

  // Over the threads that share rows.
  __device__ static T row_max(T value) {
    for (int offset = kSide / 2; offset > 0; offset /= 2) {
      const T other = __shfl_xor_sync(kAllLanes, value, offset);
      value = other > value ? other : value;
    }
    return value;
  }
  __device__ static T row_sum(T value) {
    for (int offset = kSide / 2; offset > 0; offset /= 2)
      value += __shfl_xor_sync(kAllLanes, value, offset);
    return value;
  }

 private:
  template <int N>
  __device__ static const Pack<T, N>& pack(const T* at) {
    return *reinterpret_cast<const Pack<T, N>*>(at);
  }

  template <class S, int N>
  __device__ static void load_packs(const HeadRows<const S>& from, int first, T factor, T* tile) {
    for (int i = static_cast<int>(threadIdx.x) * N; i < kRows * D; i += kThreads * N) {
      const int r = i / D, d = i % D;
      Pack<S, N> values{};
      if (first + r < from.tokens && d < from.head_dim)
        values = *reinterpret_cast<const Pack<S, N>*>(from.row(first + r) + d);
      MORA_UNROLL
      for (int e = 0; e < N; ++e) tile[r * kStride + d + e] = factor * value_as<T>(values.v[e]);
    }
  }

  __device__ static void add_row(const T (&weight)[kOwn], const T* b, Sums& sums) {
    MORA_UNROLL
    for (int e = 0; e < kDims; e += kN) {
      const Pack<T, kN> values = pack<kN>(b + dim(e));
      MORA_UNROLL
      for (int i = 0; i < kOwn; ++i) {
        MORA_UNROLL
        for (int n = 0; n < kN; ++n) sums[i][e + n] += weight[i] * values.v[n];
      }
    }
  }
};

}  // namespace mora::cuda
