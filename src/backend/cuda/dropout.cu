// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, the same as on the CPU.
#include "backend/cuda/kernels.hpp"
#include "backend/cuda/over_packs.hpp"
#include "mora/core/random.hpp"

namespace mora::cuda {

namespace {

constexpr int64_t kWord = 32;  // elements a word of the mask tells of

}  // namespace

template <class T>
void dropout_mask(const KernelArgs& args) {
  const auto attrs = args.attrs.as<DropoutMaskAttrs>();
  const auto* step = ptr<const int32_t>(args.in[0]);
  auto* mask = ptr<uint32_t>(args.out[0]);
  const auto limit = static_cast<uint32_t>(attrs.p * 0x1p32);  // p < 1
  const uint32_t stream = attrs.stream;
  const std::array<uint32_t, 2> key = philox_key(attrs.seed, Purpose::dropout);
  over_packs<1>(args.out[0].elements(), Access::single, [=] __device__(int64_t w, auto) {
    uint32_t word = 0;
    for (uint32_t first = 0; first < kWord; first += 4) {
      const auto numbers =
          philox({static_cast<uint32_t>((w * kWord + first) / 4), static_cast<uint32_t>(step[1]),
                  static_cast<uint32_t>(step[0]), stream},
                 key);
      for (uint32_t j = 0; j < 4; ++j)
        word |= static_cast<uint32_t>(numbers[j] >= limit) << (first + j);
    }
    mask[w] = word;
  });
}

template <class S>
void dropout(const KernelArgs& args) {
  using T = Working<S>;
  const auto* x = ptr<const S>(args.in[0]);
  const auto* mask = ptr<const uint32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const auto factor = static_cast<T>(1.0 / (1.0 - args.attrs.as<DropoutAttrs>().p));
  over_packs<kLanes<S>>(
      args.in[0].elements(), access_to(x, y), [=] __device__(int64_t i, auto lanes) {
        auto v = load(x + i, lanes);
        const uint32_t word = mask[i / kWord] >> (i % kWord);  // a pack lies within one
        for (int j = 0; j < decltype(lanes)::kCount; ++j)
          v.at[j] = (word >> j & 1u) != 0 ? v.at[j] * factor : T(0);
        store(y + i, v, lanes);
      });
}

MORA_CUDA_KERNEL(dropout_mask)
MORA_CUDA_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cuda
