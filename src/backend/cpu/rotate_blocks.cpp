// MoRA's rotation: a[b] = block b of x, cut and turned (turned_blocks.hpp); backward is the
// transpose.                                                      x: [T, in]  a: [T, blocks * R]
#include "backend/cpu/turned_blocks.hpp"

namespace mora::cpu {

template <class S>
void rotate_blocks(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<RotateBlocksAttrs>();
  const int64_t n = args.in[0].shape().last(), m = args.out[0].shape().last();
  const bool forward = attrs.direction == Direction::forward;
  const int64_t features = forward ? n : m, width = args.in[1].shape().last();
  const TurnedBlocks<T> blocks{ptr<const T>(args.in[1]), args.in[1].shape()[0], width, features};
  if (!forward) {
    return each_summed_row<S>(args, [&](const S* a, T* x) {
      std::fill_n(x, features, T(0));
      for (int64_t b = 0; b < blocks.count; ++b)
        blocks.add_turned_back(b, 1, RowsAt<const S>{a + b * width, 0}, RowsAt<T>{x, 0},
                               {0, features});
    });
  }
  const auto* x = ptr<const S>(args.in[0]);
  auto* a = ptr<S>(args.out[0]);
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(std::max(n, m)),
                  [&](int64_t begin, int64_t end) {
                    for (int64_t b = 0; b < blocks.count; ++b)
                      blocks.turn(b, end - begin, RowsAt<const S>{x + begin * n, n},
                                  RowsAt<S>{a + begin * m + b * width, m});
                  });
}

MORA_CPU_ACTIVATION_KERNEL(rotate_blocks)

}  // namespace mora::cpu
