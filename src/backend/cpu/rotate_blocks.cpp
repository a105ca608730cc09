// MoRA's rotation: X[b][c] = x[(b R + c) mod in], and for c < R/2 with the row (cos, sin) of block
// b
//   a[b][c]       = X[b][c] * cos[c] - X[b][c + R/2] * sin[c]
//   a[b][c + R/2] = X[b][c + R/2] * cos[c] + X[b][c] * sin[c]
// backward is the transpose: x[(b R + c) mod in] += the same with sin -> -sin.     x: [T, in]  a:
// [T, blocks * R]
#include <algorithm>

#include "backend/cpu/block_gemm.hpp"
#include "backend/cpu/row_sums.hpp"

namespace mora::cpu {

namespace {

// x = term(i, k), or plus what x holds
template <class T, class Term>
void gather(T* x, int64_t n, Store store_as, const Term& term) {
  if (store_as == Store::add) return add_vectors(x, n, term);
  each_vector<T>(n, [&](int64_t i, int64_t k) { store(x + i, term(i, k), k); });
}

template <class S>
struct Blocks {
  using T = Working<S>;
  const T* table;
  int64_t count, width, features;

  // Visits the pairs of features as runs f(at, cosine, sine, low, high, length): i further on, pair
  // (at, at + half) of a row of blocks belongs to features low and high.
  template <class Visit>
  void runs(const Visit& visit) const {
    const int64_t half = width / 2;
    for (int64_t b = 0; b < count; ++b) {
      const T *cosine = table + b * width, *sine = cosine + half;
      for (int64_t c = 0; c < half;) {
        const int64_t low = (b * width + c) % features, high = (b * width + half + c) % features;
        const int64_t length = std::min({half - c, features - low, features - high});
        visit(b * width + c, cosine + c, sine + c, low, high, length);
        c += length;
      }
    }
  }

  void forward(const S* x, S* a) const {
    const int64_t half = width / 2;
    runs(
        [=](int64_t at, const T* cosine, const T* sine, int64_t low, int64_t high, int64_t length) {
          S *first = a + at, *second = first + half;
          each_vector<T>(length, [=](int64_t i, int64_t k) {
            const Vec<T> u = load(x + low + i, k), v = load(x + high + i, k),
                         c = load(cosine + i, k), s = load(sine + i, k);
            store(first + i, u * c - v * s, k);
            store(second + i, v * c + u * s, k);
          });
        });
  }

  // x in the working type: several blocks may add to a feature. The first that comes to it puts its
  // number there; that a wider block comes to a feature first is not sure, so those find zeros.
  void backward(const S* a, T* x) const {
    const int64_t half = width / 2, put = width <= features ? features : 0;
    const int64_t reached = std::min(put, count * width);
    std::fill(x + reached, x + features, T(0));
    runs([=](int64_t at, const T* cosine, const T* sine, int64_t low, int64_t high,
             int64_t length) {
      const S *first = a + at, *second = first + half;
      // One after the other, as both may be the same features.
      gather(x + low, length, at < put ? Store::assign : Store::add, [=](int64_t i, int64_t k) {
        return load(first + i, k) * load(cosine + i, k) + load(second + i, k) * load(sine + i, k);
      });
      gather(x + high, length, at + half < put ? Store::assign : Store::add,
             [=](int64_t i, int64_t k) {
               return load(second + i, k) * load(cosine + i, k) -
                      load(first + i, k) * load(sine + i, k);
             });
    });
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
