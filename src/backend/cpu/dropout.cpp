// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, so neither the number of threads nor a restart changes it, and the gradient recomputes
// it.
#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"

namespace mora::cpu {

template <class S>
void dropout(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<DropoutAttrs>();
  const auto* x = ptr<const S>(args.in[0]);
  const auto* step = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const auto limit =
      static_cast<uint64_t>(attrs.p * 0x1p32);  // kept where the bits are not below this
  const T factor = static_cast<T>(1.0 / (1.0 - attrs.p));
  const std::array<uint32_t, 2> key = {
      static_cast<uint32_t>(attrs.seed),
      static_cast<uint32_t>(attrs.seed >> 32) ^ (static_cast<uint32_t>(Purpose::dropout) << 24)};
  parallel_pieces(args.in[0].elements(), kStreamPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += 4) {
      const auto bits = philox({static_cast<uint32_t>(i / 4), static_cast<uint32_t>(step[1]),
                                static_cast<uint32_t>(step[0]), attrs.stream},
                               key);
      for (int64_t j = i; j < std::min(end, i + 4); ++j) {
        const bool kept = bits[static_cast<size_t>(j - i)] >= limit;
        y[j] = value_as<S>(kept ? value_as<T>(x[j]) * factor : T(0));
      }
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cpu
