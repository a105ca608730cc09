// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, the same as on the CPU, and the gradient recomputes it. Four elements share a block of
// random bits.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"
#include "mora/core/random.hpp"

namespace mora::cuda {

template <class S>
void dropout(const KernelArgs& args) {
  using T = Working<S>;
  constexpr int kShare = 4;
  const auto attrs = args.attrs.as<DropoutAttrs>();
  const auto* x = ptr<const S>(args.in[0]);
  const auto* step = ptr<const int32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const auto limit = static_cast<uint32_t>(attrs.p * 0x1p32);  // p < 1
  const T factor = static_cast<T>(1.0 / (1.0 - attrs.p));
  const uint32_t stream = attrs.stream;
  const std::array<uint32_t, 2> key = {
      static_cast<uint32_t>(attrs.seed),
      static_cast<uint32_t>(attrs.seed >> 32) ^ (static_cast<uint32_t>(Purpose::dropout) << 24)};
  over_packs<std::max(kShare, kLanes<S>)>(
      args.in[0].elements(), access_to(x, y), [=] __device__(int64_t i, auto lanes) {
        constexpr int kCount = decltype(lanes)::kCount;
        auto v = load(x + i, lanes);
        for (int first = 0; first < kCount; first += kShare) {
          const auto bits =
              philox({static_cast<uint32_t>((i + first) / kShare), static_cast<uint32_t>(step[1]),
                      static_cast<uint32_t>(step[0]), stream},
                     key);
          for (int j = 0; j < std::min(kShare, kCount); ++j) {
            const uint32_t drawn =
                bits[kCount == 1 ? static_cast<size_t>(i % kShare) : static_cast<size_t>(j)];
            v.at[first + j] = drawn >= limit ? v.at[first + j] * factor : T(0);
          }
        }
        store(y + i, v, lanes);
      });
}

MORA_CUDA_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cuda
