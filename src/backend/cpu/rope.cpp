// RoPE with half-split pairs: for i < K/2 and the row (cos, sin) of the token's position,
//   y[i]       = x[i] * cos[i] - x[i + K/2] * sin[i]
//   y[i + K/2] = x[i + K/2] * cos[i] + x[i] * sin[i]        (backward: sin -> -sin)
#include "backend/cpu/kernels.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

template <class S>
void rope(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<RopeAttrs>();
  const auto* x = ptr<const S>(args.in[0]);
  const auto* table = ptr<const T>(args.in[1]);
  const auto* positions = ptr<const int32_t>(args.in[2]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t head_dim = args.in[1].shape().last(), half = head_dim / 2,
                width = args.in[0].shape().last();
  const T sign = attrs.direction == Direction::forward ? T(1) : T(-1);
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(width), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const T *cosine = table + int64_t{positions[t]} * head_dim, *sine = cosine + half;
      for (int64_t h = 0; h < attrs.heads; ++h) {
        const S* from = x + t * width + h * head_dim;
        S* to = y + t * width + h * head_dim;
        int64_t i = 0;
        for (; i + kLanes<T> <= half; i += kLanes<T>) {
          const Vec<T> a = load(from + i), b = load(from + i + half), c = load(cosine + i),
                       s = sign * load(sine + i);
          store(to + i, a * c - b * s);
          store(to + i + half, b * c + a * s);
        }
        for (; i < half; ++i) {
          const T a = value_as<T>(from[i]), b = value_as<T>(from[i + half]), s = sign * sine[i];
          to[i] = value_as<S>(a * cosine[i] - b * s);
          to[i + half] = value_as<S>(b * cosine[i] + a * s);
        }
      }
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(rope)

}  // namespace mora::cpu
