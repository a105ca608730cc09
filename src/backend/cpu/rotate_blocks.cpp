// MoRA's rotation: X[b][c] = x[(b R + c) mod in], and for c < R/2 with the row (cos, sin) of block
// b
//   a[b][c]       = X[b][c] * cos[c] - X[b][c + R/2] * sin[c]
//   a[b][c + R/2] = X[b][c + R/2] * cos[c] + X[b][c] * sin[c]
// backward is the transpose: x[(b R + c) mod in] += the same with sin -> -sin.     x: [T, in]  a:
// [T, blocks * R]
#include <algorithm>

#include "backend/cpu/row_sums.hpp"

namespace mora::cpu {

namespace {

template <class S>
struct Blocks {
  using T = Working<S>;
  const T* table;
  int64_t count, width, features;

  void forward(const S* x, S* a) const {
    const int64_t half = width / 2;
    for (int64_t b = 0; b < count; ++b) {
      const T *cosine = table + b * width, *sine = cosine + half;
      S* out = a + b * width;
      int64_t low = b * width % features, high = (b * width + half) % features;
      for (int64_t c = 0; c < half; ++c) {
        const T u = value_as<T>(x[low]), v = value_as<T>(x[high]);
        out[c] = value_as<S>(u * cosine[c] - v * sine[c]);
        out[c + half] = value_as<S>(v * cosine[c] + u * sine[c]);
        if (++low == features) low = 0;
        if (++high == features) high = 0;
      }
    }
  }

  // x in the working type: several blocks add to a feature.
  void backward(const S* a, T* x) const {
    const int64_t half = width / 2;
    std::fill_n(x, features, T(0));
    for (int64_t b = 0; b < count; ++b) {
      const T *cosine = table + b * width, *sine = cosine + half;
      const S* in = a + b * width;
      int64_t low = b * width % features, high = (b * width + half) % features;
      for (int64_t c = 0; c < half; ++c) {
        const T u = value_as<T>(in[c]), v = value_as<T>(in[c + half]);
        x[low] += u * cosine[c] + v * sine[c];
        x[high] += v * cosine[c] - u * sine[c];
        if (++low == features) low = 0;
        if (++high == features) high = 0;
      }
    }
  }
};

}  // namespace

template <class S>
void rotate_blocks(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<RotateBlocksAttrs>();
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last();
  const bool forward = attrs.direction == Direction::forward;
  const Blocks<S> blocks{.table = ptr<const T>(args.in[1]),
                         .count = args.in[1].shape()[0],
                         .width = args.in[1].shape().last(),
                         .features = forward ? n : m};
  if (!forward) return each_summed_row<S>(args, [&](const S* a, T* x) { blocks.backward(a, x); });
  const auto* x = ptr<const S>(args.in[0]);
  auto* a = ptr<S>(args.out[0]);
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(std::max(n, m)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t t = begin; t < end; ++t) blocks.forward(x + t * n, a + t * m);
                  });
}

MORA_CPU_ACTIVATION_KERNEL(rotate_blocks)

}  // namespace mora::cpu
