// What ends a step: gradient accumulation, the global norm, and AdamW over flat blocks.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

// target += x
template <class T>
void accumulate(const KernelArgs& args) {
  auto* target = ptr<T>(args.in[0]);
  const auto* x = ptr<const T>(args.in[1]);
  parallel_pieces(args.in[1].elements(), kStreamPiece, [&](int64_t begin, int64_t end) {
    axpy(T(1), x + begin, target + begin, end - begin);
  });
}

// target = 0
template <class T>
void clear(const KernelArgs& args) {
  auto* target = ptr<std::byte>(args.in[0]);
  parallel_pieces(static_cast<int64_t>(args.in[0].bytes()), kStreamPiece * 4,
                  [&](int64_t begin, int64_t end) {
                    std::memset(target + begin, 0, static_cast<size_t>(end - begin));
                  });
}

Prepared prepare_squared_norm(const OpCall& call) {
  const int64_t pieces = (call.in[0].shape.elements() + kStreamPiece - 1) / kStreamPiece;
  return {static_cast<size_t>(pieces) * sizeof(double), nullptr};
}

// norm2 = sum of x[i]^2: pieces of a fixed length, in double, added in order
template <class T>
void squared_norm(const KernelArgs& args) {
  const auto* x = ptr<const T>(args.in[0]);
  auto* partial = static_cast<double*>(args.scratch);
  const int64_t n = args.in[0].elements();
  parallel_pieces(n, kStreamPiece, [&](int64_t begin, int64_t end) {
    double lanes[8] = {};
    int64_t i = begin;
    for (; i + 8 <= end; i += 8) {
      for (int64_t j = 0; j < 8; ++j)
        lanes[j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    }
    for (; i < end; ++i) lanes[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
    double sum = 0;
    for (double lane : lanes) sum += lane;
    partial[begin / kStreamPiece] = sum;
  });
  double total = 0;
  for (int64_t piece = 0; piece * kStreamPiece < n; ++piece) total += partial[piece];
  ptr<T>(args.out[0])[0] = static_cast<T>(total);
}

// AdamW (Loshchilov & Hutter 2019) in the order of torch.optim.AdamW, after torch's
// clip_grad_norm_:
//   g *= min(1, max_norm / (norm + 1e-6));  p *= 1 - lr * wd
//   m += (1 - b1) (g - m);  v = b2 v + (1 - b2) g^2;  p -= lr / c1 * m / (sqrt(v) / sqrt(c2) + eps)
// A norm that is not finite leaves everything untouched.
template <class T>
void adamw(const KernelArgs& args) {
  const auto attrs = args.attrs.as<AdamWAttrs>();
  auto *p = ptr<T>(args.in[0]), *m = ptr<T>(args.in[2]), *v = ptr<T>(args.in[3]);
  const auto* g = ptr<const T>(args.in[1]);
  const double norm = std::sqrt(static_cast<double>(ptr<const T>(args.in[4])[0]));
  if (!std::isfinite(norm)) return;
  const auto* hyper = ptr<const double>(args.in[5]);
  const double lr = attrs.lr_ratio * hyper[0];
  const T clip = attrs.max_grad_norm > 0
                     ? static_cast<T>(std::min(1.0, attrs.max_grad_norm / (norm + 1e-6)))
                     : T(1);
  const T decay = static_cast<T>(1.0 - lr * attrs.weight_decay),
          step = static_cast<T>(lr / hyper[1]);
  const T first = static_cast<T>(1.0 - attrs.beta1), second = static_cast<T>(attrs.beta2),
          rest = static_cast<T>(1.0 - attrs.beta2);
  const T root = static_cast<T>(std::sqrt(hyper[2])), eps = static_cast<T>(attrs.eps);
  parallel_pieces(args.in[0].elements(), kStreamPiece, [&](int64_t begin, int64_t end) {
#pragma GCC ivdep
    for (int64_t i = begin; i < end; ++i) {
      const T gradient = g[i] * clip;
      m[i] += first * (gradient - m[i]);
      v[i] = second * v[i] + rest * gradient * gradient;
      p[i] = p[i] * decay - step * m[i] / (std::sqrt(v[i]) / root + eps);
    }
  });
}

MORA_CPU_KERNEL(accumulate)
MORA_CPU_KERNEL(clear)
MORA_CPU_KERNEL(squared_norm)
MORA_CPU_KERNEL(adamw)

}  // namespace mora::cpu
