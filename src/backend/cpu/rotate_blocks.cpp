// MoRA's rotation: X[b][c] = x[(b R + c) mod in], and for c < R/2 with the row (cos, sin) of block
// b
//   a[b][c]       = X[b][c] * cos[c] - X[b][c + R/2] * sin[c]
//   a[b][c + R/2] = X[b][c + R/2] * cos[c] + X[b][c] * sin[c]
// backward is the transpose: x[(b R + c) mod in] += the same with sin -> -sin.     x: [T, in]  a:
// [T, blocks * R]
#include <algorithm>

#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

template <class T>
struct Blocks {
  const T* table;
  int64_t count, width, features;

  void forward(const T* x, T* a) const {
    const int64_t half = width / 2;
    for (int64_t b = 0; b < count; ++b) {
      const T *cosine = table + b * width, *sine = cosine + half;
      T* out = a + b * width;
      int64_t low = b * width % features, high = (b * width + half) % features;
      for (int64_t c = 0; c < half; ++c) {
        const T u = x[low], v = x[high];
        out[c] = u * cosine[c] - v * sine[c];
        out[c + half] = v * cosine[c] + u * sine[c];
        if (++low == features) low = 0;
        if (++high == features) high = 0;
      }
    }
  }

  void backward(const T* a, T* x) const {
    const int64_t half = width / 2;
    std::fill_n(x, features, T(0));
    for (int64_t b = 0; b < count; ++b) {
      const T *cosine = table + b * width, *sine = cosine + half;
      const T* in = a + b * width;
      int64_t low = b * width % features, high = (b * width + half) % features;
      for (int64_t c = 0; c < half; ++c) {
        const T u = in[c], v = in[c + half];
        x[low] += u * cosine[c] + v * sine[c];
        x[high] += v * cosine[c] - u * sine[c];
        if (++low == features) low = 0;
        if (++high == features) high = 0;
      }
    }
  }
};

}  // namespace

template <class T>
void rotate_blocks(const KernelArgs& args) {
  const auto attrs = args.attrs.as<RotateBlocksAttrs>();
  const auto* x = ptr<const T>(args.in[0]);
  auto* y = ptr<T>(args.out[0]);
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last();
  const bool forward = attrs.direction == Direction::forward;
  const Blocks<T> blocks{.table = ptr<const T>(args.in[1]),
                         .count = args.in[1].shape()[0],
                         .width = args.in[1].shape().last(),
                         .features = forward ? n : m};
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(std::max(n, m)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t t = begin; t < end; ++t) {
                      if (forward) {
                        blocks.forward(x + t * n, y + t * m);
                      } else {
                        blocks.backward(x + t * n, y + t * m);
                      }
                    }
                  });
}

MORA_CPU_KERNEL(rotate_blocks)

}  // namespace mora::cpu
