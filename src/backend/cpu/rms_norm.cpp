// RMSNorm and its gradient.                                              x, y, dy, dx: [T, D]  w,
// dw: [D]  rstd: [T]
#include <algorithm>
#include <cmath>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

template <class T, class Y>
void norm_rows(const KernelArgs& args) {
  const auto *x = ptr<const T>(args.in[0]), *w = ptr<const T>(args.in[1]);
  auto* y = ptr<Y>(args.out[0]);
  auto* rstd = ptr<T>(args.out[1]);
  const int64_t width = args.in[0].shape().last();
  const T eps = static_cast<T>(args.attrs.as<RmsNormAttrs>().eps);
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const T* row = x + t * width;
      const T r = T(1) / std::sqrt(dot(row, row, width) / static_cast<T>(width) + eps);
      if (rstd != nullptr) rstd[t] = r;
      if (y == nullptr) continue;
      Y* out = y + t * width;
      int64_t d = 0;
      for (; d + kLanes<T> <= width; d += kLanes<T>)
        store(out + d, load(row + d) * r * load(w + d));
      for (; d < width; ++d) out[d] = value_as<Y>(row[d] * r * w[d]);
    }
  });
}

}  // namespace

// y[t, :] = x[t, :] * rstd[t] * w,   rstd[t] = 1 / sqrt(mean(x[t, :]^2) + eps)
template <class T>
void rms_norm(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (args.out[0].dtype() == DType::bf16) return norm_rows<T, bf16>(args);
  }
  norm_rows<T, T>(args);
}

namespace {
constexpr int64_t kRows =
    64;  // rows whose contribution to dw is summed before it is combined with the others
}

Prepared prepare_rms_norm_grad(const OpCall& call) {
  if (!call.read[1]) return {};
  const int64_t pieces = (call.in[0].shape[0] + kRows - 1) / kRows;
  return {static_cast<size_t>(pieces * call.in[0].shape.last()) * size_of(call.in[0].dtype),
          nullptr};
}

namespace {

template <class T, class Y>
void norm_gradient(const KernelArgs& args) {
  const auto *x = ptr<const T>(args.in[0]), *w = ptr<const T>(args.in[1]),
             *rstd = ptr<const T>(args.in[2]);
  const auto* dy = ptr<const Y>(args.in[3]);
  auto *dx = ptr<T>(args.out[0]), *dw = ptr<T>(args.out[1]);
  auto* partial = static_cast<T*>(args.scratch);
  const int64_t tokens = args.in[0].shape()[0], width = args.in[0].shape().last();
  parallel_pieces(tokens, kRows, [&](int64_t begin, int64_t end) {
    T* sum = dw == nullptr ? nullptr : partial + begin / kRows * width;
    if (sum != nullptr) std::fill(sum, sum + width, T(0));
    for (int64_t t = begin; t < end; ++t) {
      const T* xr = x + t * width;
      const Y* dr = dy + t * width;
      const T r = rstd[t];
      if (dx != nullptr) {
        Vec<T> lanes{};
        int64_t d = 0;
        for (; d + kLanes<T> <= width; d += kLanes<T>)
          lanes += load(dr + d) * load(w + d) * load(xr + d);
        T product = lane_sum<T>(lanes);
        for (; d < width; ++d) product += value_as<T>(dr[d]) * w[d] * xr[d];
        const T c = r * r * product / static_cast<T>(width);
        T* out = dx + t * width;
        int64_t i = 0;
        for (; i + kLanes<T> <= width; i += kLanes<T>)
          store(out + i, r * (load(dr + i) * load(w + i) - load(xr + i) * c));
        for (; i < width; ++i) out[i] = r * (value_as<T>(dr[i]) * w[i] - xr[i] * c);
      }
      if (sum != nullptr) {
        for (int64_t i = 0; i < width; ++i) sum[i] += value_as<T>(dr[i]) * xr[i] * r;
      }
    }
  });
  if (dw == nullptr) return;
  std::fill(dw, dw + width, T(0));
  for (int64_t piece = 0; piece * kRows < tokens; ++piece)
    axpy(T(1), partial + piece * width, dw, width);
}

}  // namespace

// dx = rstd * (dy * w - x * rstd^2 * mean(dy * w * x)),   dw = sum_t dy[t] * x[t] * rstd[t]
template <class T>
void rms_norm_grad(const KernelArgs& args) {
  if constexpr (std::is_same_v<T, float>) {
    if (args.in[3].dtype() == DType::bf16) return norm_gradient<T, bf16>(args);
  }
  norm_gradient<T, T>(args);
}

MORA_CPU_KERNEL(rms_norm)
MORA_CPU_KERNEL(rms_norm_grad)

}  // namespace mora::cpu
