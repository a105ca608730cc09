// row_norm: norms of the rows of w + scale * b a, which is never stored whole.
// dora:     y = (g - 1) * base + g * low_rank with g = magnitude / norm, and its gradient.
//   w: [out, in]  b: [out, R]  a: [R, in]    base, low_rank, y: [T, N]  magnitude, norm, g: [N]
#include <algorithm>
#include <cmath>

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// A tile of the update, so many rows of it a piece.
constexpr int64_t kRows = 12, kColumns = 256;

template <class T, class Stored>
void norms(const KernelArgs& args) {
  const auto* w = ptr<const Stored>(args.in[0]);
  const auto *b = ptr<const T>(args.in[1]), *a = ptr<const T>(args.in[2]);
  auto* norm = ptr<T>(args.out[0]);
  const int64_t out = args.in[0].shape()[0], in = args.in[0].shape()[1],
                rank = args.in[1].shape()[1];
  const T scale = static_cast<T>(args.attrs.as<RowNormAttrs>().scale);
  parallel_pieces(out, kRows, [&](int64_t begin, int64_t end) {
    double sums[kRows] = {};
    T tile[kRows * kColumns];
    for (int64_t first = 0; first < in; first += kColumns) {
      const int64_t columns = std::min(kColumns, in - first);
      block_gemm<T>(end - begin, columns, rank, {b + begin * rank, rank, 1}, a + first, in, tile,
                    kColumns, Store::assign);
      for (int64_t o = begin; o < end; ++o) {
        const T* update = tile + (o - begin) * kColumns;
        const Stored* base = w + o * in + first;
        const auto squared = [&](int64_t j) {
          const auto x = static_cast<double>(value_as<T>(base[j]) + scale * update[j]);
          return x * x;
        };
        double lanes[8] = {};
        int64_t j = 0;
        for (; j + 8 <= columns; j += 8) {
          for (int64_t lane = 0; lane < 8; ++lane) lanes[lane] += squared(j + lane);
        }
        for (; j < columns; ++j) lanes[0] += squared(j);
        for (const double lane : lanes) sums[o - begin] += lane;
      }
    }
    for (int64_t o = begin; o < end; ++o) norm[o] = static_cast<T>(std::sqrt(sums[o - begin]));
  });
}

}  // namespace

template <class T>
void row_norm(const KernelArgs& args) {
  switch (args.in[0].dtype()) {
    case DType::bf16:
      return norms<T, bf16>(args);
    case DType::f16:
      return norms<T, f16>(args);
    default:
      return norms<T, T>(args);
  }
}

template <class S>
void dora(const KernelArgs& args) {
  using T = Working<S>;
  const auto *base = ptr<const S>(args.in[0]), *low_rank = ptr<const S>(args.in[1]);
  const auto *magnitude = ptr<const T>(args.in[2]), *norm = ptr<const T>(args.in[3]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape()[1];
  parallel_pieces(rows, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const S *from = base + t * width, *change = low_rank + t * width;
      S* to = y + t * width;
#pragma GCC ivdep
      for (int64_t i = 0; i < width; ++i) {
        const T g = magnitude[i] / norm[i];
        to[i] = value_as<S>((g - T(1)) * value_as<T>(from[i]) + g * value_as<T>(change[i]));
      }
    }
  });
}

namespace {

// d base = (g - 1) dy,  d low_rank = g dy
template <class S>
void input_gradients(const KernelArgs& args) {
  using T = Working<S>;
  const auto *magnitude = ptr<const T>(args.in[2]), *norm = ptr<const T>(args.in[3]);
  const auto* dy = ptr<const S>(args.in[4]);
  auto *d_base = ptr<S>(args.out[0]), *d_low_rank = ptr<S>(args.out[1]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape()[1];
  parallel_pieces(rows, rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t at = t * width;
      for (int64_t i = 0; d_base != nullptr && i < width; ++i)
        d_base[at + i] = value_as<S>((magnitude[i] / norm[i] - T(1)) * value_as<T>(dy[at + i]));
      for (int64_t i = 0; d_low_rank != nullptr && i < width; ++i)
        d_low_rank[at + i] = value_as<S>(magnitude[i] / norm[i] * value_as<T>(dy[at + i]));
    }
  });
}

// d magnitude = sum of the rows dy * (base + low_rank) / norm, in blocks of rows so that rounding
// does not grow with T; parallel over columns.
template <class S>
void magnitude_gradient(const KernelArgs& args) {
  using T = Working<S>;
  constexpr int64_t kWidth = 64, kBlock = 64;
  const auto *base = ptr<const S>(args.in[0]), *low_rank = ptr<const S>(args.in[1]),
             *dy = ptr<const S>(args.in[4]);
  const auto* norm = ptr<const T>(args.in[3]);
  auto* d = ptr<T>(args.out[2]);
  const int64_t rows = args.in[0].shape()[0], width = args.in[0].shape()[1];
  parallel_pieces(width, kWidth, [&](int64_t begin, int64_t end) {
    std::fill(d + begin, d + end, T(0));
    for (int64_t first = 0; first < rows; first += kBlock) {
      T sum[kWidth] = {};
      for (int64_t t = first; t < std::min(rows, first + kBlock); ++t) {
        const int64_t at = t * width;
        for (int64_t i = begin; i < end; ++i)
          sum[i - begin] +=
              value_as<T>(dy[at + i]) * (value_as<T>(base[at + i]) + value_as<T>(low_rank[at + i]));
      }
      axpy(T(1), sum, d + begin, end - begin);
    }
    for (int64_t i = begin; i < end; ++i) d[i] /= norm[i];
  });
}

}  // namespace

template <class S>
void dora_grad(const KernelArgs& args) {
  if (args.out[0].data != nullptr || args.out[1].data != nullptr) input_gradients<S>(args);
  if (args.out[2].data != nullptr) magnitude_gradient<S>(args);
}

MORA_CPU_KERNEL(row_norm)
MORA_CPU_ACTIVATION_KERNEL(dora)
MORA_CPU_ACTIVATION_KERNEL(dora_grad)

}  // namespace mora::cpu
