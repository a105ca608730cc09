// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, so neither the number of threads nor a restart changes it, and the gradient recomputes
// it.
#include <algorithm>
#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/philox_lanes.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

// y = x * factor where bits are not below limit, else 0
template <class S>
void drop(const S* x, const uint32_t* bits, int64_t n, uint32_t limit, Working<S> factor, S* y) {
  using T = Working<S>;
  int64_t i = 0;
  if constexpr (std::is_same_v<T, float>) {
    for (; i + kLanes<float> <= n; i += kLanes<float>) {
      const Words drawn = *reinterpret_cast<const Words*>(bits + i);
      store(y + i, drawn >= limit ? load(x + i) * factor : Vec<float>{});
    }
  }
  for (; i < n; ++i) y[i] = value_as<S>(bits[i] >= limit ? value_as<T>(x[i]) * factor : T(0));
}

}  // namespace

template <class S>
void dropout(const KernelArgs& args) {
  using T = Working<S>;
  const auto attrs = args.attrs.as<DropoutAttrs>();
  const auto* x = ptr<const S>(args.in[0]);
  const auto* step = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const auto limit = static_cast<uint32_t>(attrs.p * 0x1p32);  // p < 1
  const T factor = static_cast<T>(1.0 / (1.0 - attrs.p));
  const std::array<uint32_t, 2> key = {
      static_cast<uint32_t>(attrs.seed),
      static_cast<uint32_t>(attrs.seed >> 32) ^ (static_cast<uint32_t>(Purpose::dropout) << 24)};
  parallel_pieces(args.in[0].elements(), kStreamPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kPhiloxRun) {
      alignas(64) uint32_t bits[kPhiloxRun];
      philox_run({static_cast<uint32_t>(i / 4), static_cast<uint32_t>(step[1]),
                  static_cast<uint32_t>(step[0]), attrs.stream},
                 key, bits);
      drop(x + i, bits, std::min<int64_t>(end - i, kPhiloxRun), limit, factor, y + i);
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cpu
