// RoPE with half-split pairs: for i < K/2 and the row (cos, sin) of the token's position,
//   y[i]       = x[i] * cos[i] - x[i + K/2] * sin[i]
//   y[i + K/2] = x[i + K/2] * cos[i] + x[i] * sin[i]        (backward: sin -> -sin)
// x, y: [T, H*K]  table: [P, K]  positions: [T]. A thread turns a pack of pairs.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

template <class S>
void rope(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<RopeAttrs>();
  const auto* x = ptr<const S>(args.in[0]);
  const auto* table = ptr<const T>(args.in[1]);
  const auto* positions = ptr<const int32_t>(args.in[2]);
  auto* y = ptr<S>(args.out[0]);
  const auto half = static_cast<int32_t>(args.in[1].shape().last() / 2);
  const int64_t width = args.in[0].shape().last();
  const T sign = attrs.direction == Direction::forward ? T(1) : T(-1);
  over_rows<kLanes<S>>({args.in[0].shape()[0], width / 2, half}, access_to(x, table, y),
                       [=] __device__(int64_t t, int64_t pair, auto lanes) {
                         const int32_t head = static_cast<int32_t>(pair) / half,
                                       i = static_cast<int32_t>(pair) % half;
                         const T* cosine = table + int64_t{positions[t]} * 2 * half + i;
                         const int64_t low = t * width + int64_t{head} * 2 * half + i,
                                       high = low + half;
                         const auto a = load(x + low, lanes), b = load(x + high, lanes),
                                    c = load(cosine, lanes), s = sign * load(cosine + half, lanes);
                         store(y + low, a * c - b * s, lanes);
                         store(y + high, b * c + a * s, lanes);
                       });
}

MORA_CUDA_ACTIVATION_KERNEL(rope)

}  // namespace mora::cuda
