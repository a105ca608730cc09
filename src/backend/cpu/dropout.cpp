// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, so neither the number of threads nor a restart changes it.
#include <algorithm>
#include <type_traits>

#include "backend/cpu/kernels.hpp"
#include "backend/cpu/philox_lanes.hpp"
#include "backend/cpu/simd.hpp"
#include "mora/core/parallel.hpp"

namespace mora::cpu {

namespace {

constexpr int64_t kWord = 32;  // elements a word of the mask tells of
static_assert(kStreamPiece % kPhiloxRun == 0 && kPhiloxRun % kWord == 0);

// Which of kWord numbers are not below limit.
uint32_t kept(const uint32_t* numbers, uint32_t limit) {
  uint32_t word = 0;
  for (int64_t i = 0; i < kWord; ++i) word |= static_cast<uint32_t>(numbers[i] >= limit) << i;
  return word;
}

// y = x * factor where the word has a bit, else 0
template <class S>
void drop(const S* x, uint32_t word, int64_t n, Working<S> factor, S* y) {
  using T = Working<S>;
  if constexpr (std::is_same_v<T, float>) {
    if (n == kWord) {
      uint32_t bits[kLanes<uint32_t>];
      for (int64_t i = 0; i < kLanes<uint32_t>; ++i) bits[i] = 1u << i;
      const Words bit = load(bits);
      for (int64_t i = 0; i < kWord; i += kLanes<float>) {
        const Words lanes = (Words{} + (word >> i)) & bit;
        store(y + i, select(lanes != 0u, load(x + i) * factor, Vec<float>{}));
      }
      return;
    }
  }
  for (int64_t i = 0; i < n; ++i)
    y[i] = value_as<S>((word >> i & 1u) != 0 ? value_as<T>(x[i]) * factor : T(0));
}

}  // namespace

template <class T>
void dropout_mask(const KernelArgs& args) {
  const auto attrs = args.attrs.as<DropoutMaskAttrs>();
  const auto* step = ptr<const int32_t>(args.in[0]);
  auto* mask = ptr<uint32_t>(args.out[0]);
  const auto limit = static_cast<uint32_t>(attrs.p * 0x1p32);  // p < 1
  const std::array<uint32_t, 2> key = philox_key(attrs.seed, Purpose::dropout);
  const int64_t words = args.out[0].elements(), run = kPhiloxRun / kWord;
  parallel_pieces(words, kStreamPiece / kWord, [&](int64_t begin, int64_t end) {
    for (int64_t w = begin; w < end; w += run) {
      alignas(64) uint32_t numbers[kPhiloxRun];
      philox_run({static_cast<uint32_t>(w * kWord / 4), static_cast<uint32_t>(step[1]),
                  static_cast<uint32_t>(step[0]), attrs.stream},
                 key, numbers);
      for (int64_t i = 0; i < std::min(run, end - w); ++i)
        mask[w + i] = kept(numbers + i * kWord, limit);
    }
  });
}

template <class S>
void dropout(const KernelArgs& args) {
  const auto* x = ptr<const S>(args.in[0]);
  const auto* mask = ptr<const uint32_t>(args.in[1]);
  auto* y = ptr<S>(args.out[0]);
  const auto factor = static_cast<Working<S>>(1.0 / (1.0 - args.attrs.as<DropoutAttrs>().p));
  parallel_pieces(args.in[0].elements(), kStreamPiece, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i += kWord)
      drop(x + i, mask[i / kWord], std::min(kWord, end - i), factor, y + i);
  });
}

MORA_CPU_KERNEL(dropout_mask)
MORA_CPU_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cpu
