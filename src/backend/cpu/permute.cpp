// A signed permutation of features: y[t, j] = s_j x[t, p_j], or its transpose.
#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

template <class S>
void permute(const KernelArgs& args) {
  using T = Working<S>;
  const bool forward = args.attrs.as<PermuteAttrs>().direction == Direction::forward;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* order = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const int64_t n = args.in[0].shape().last();
  parallel_pieces(args.in[0].shape()[0], rows_per_piece(n), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const S* from = x + t * n;
      S* to = y + t * n;
      for (int64_t j = 0; j < n; ++j) {
        const T sign = order[j] < 0 ? T(-1) : T(1);
        const int64_t p = order[j] < 0 ? -1 - int64_t{order[j]} : order[j];
        if (forward) {
          to[j] = value_as<S>(sign * value_as<T>(from[p]));
        } else {
          to[p] = value_as<S>(sign * value_as<T>(from[j]));
        }
      }
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(permute)

}  // namespace mora::cpu
