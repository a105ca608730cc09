// MoRA's rotation: X[b][c] = x[(b R + c) mod in], and for c < R/2 with the row (cos, sin) of block
// b
//   a[b][c]       = X[b][c] * cos[c] - X[b][c + R/2] * sin[c]
//   a[b][c + R/2] = X[b][c + R/2] * cos[c] + X[b][c] * sin[c]
// backward is the transpose: x[(b R + c) mod in] += the same with sin -> -sin.
// x: [T, in]  a: [T, blocks * R]
#include <numeric>

#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"

namespace mora::cuda {

namespace {

struct Blocks {
  int32_t count, half, features;

  int32_t width() const { return 2 * count * half; }
  int32_t run() const { return std::gcd(half, features); }
};

// A thread turns a pack of pairs.
template <class S>
void rotate(const KernelArgs& args, const Blocks& blocks) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* table = ptr<const Working<S>>(args.in[1]);
  auto* a = ptr<S>(args.out[0]);
  over_rows<kLanes<S>>(
      {args.in[0].shape()[0], blocks.width() / 2, blocks.run()}, access_to(x, table, a),
      [=] __device__(int64_t t, int64_t column, auto lanes) {
        const auto pair = static_cast<int32_t>(column);
        const int32_t half = blocks.half, at = pair + pair / half * half;  // of the first, in a
        const S* row = x + t * blocks.features;
        const auto u = load(row + at % blocks.features, lanes),
                   v = load(row + (at + half) % blocks.features, lanes),
                   c = load(table + at, lanes), s = load(table + at + half, lanes);
        S* to = a + t * 2 * half * blocks.count + at;
        store(to, u * c - v * s, lanes);
        store(to + half, v * c + u * s, lanes);
      });
}

// A thread adds up what a pack of features gets, in the order of blocks.
template <class S>
void rotate_back(const KernelArgs& args, const Blocks& blocks) {
  using T = Working<S>;
  const auto* a = ptr<const S>(args.in[0]);
  const auto* table = ptr<const T>(args.in[1]);
  auto* x = ptr<S>(args.out[0]);
  const int32_t width = blocks.width();
  over_rows<kLanes<S>>(
      {args.in[0].shape()[0], blocks.features, blocks.run()}, access_to(a, table, x),
      [=] __device__(int64_t t, int64_t column, auto lanes) {
        const int32_t half = blocks.half;
        const S* row = a + t * width;
        Vec<T, decltype(lanes)::kCount> sum{};
        for (auto p = static_cast<int32_t>(column); p < width; p += blocks.features) {
          const bool low = p / half % 2 == 0;  // of its pair
          const int32_t other = low ? p + half : p - half;
          const auto c = load(table + (low ? p : other), lanes),
                     s = load(table + (low ? other : p), lanes);
          const auto turned = load(row + p, lanes) * c, across = load(row + other, lanes) * s;
          sum = sum + (low ? turned + across : turned - across);
        }
        store(x + t * blocks.features + column, sum, lanes);
      });
}

}  // namespace

template <class S>
void rotate_blocks(const KernelArgs& args) {
  const bool forward = args.attrs.as<RotateBlocksAttrs>().direction == Direction::forward;
  const Shape& table = args.in[1].shape();
  const Tensor& features = forward ? args.in[0] : args.out[0];
  const Blocks blocks{.count = static_cast<int32_t>(table[0]),
                      .half = static_cast<int32_t>(table.last() / 2),
                      .features = static_cast<int32_t>(features.shape().last())};
  forward ? rotate<S>(args, blocks) : rotate_back<S>(args, blocks);
}

MORA_CUDA_ACTIVATION_KERNEL(rotate_blocks)

}  // namespace mora::cuda
