// y[i] = x[i] * keep(i) / (1 - p). keep is a function of (seed, stream, step, micro step, i) by
// Philox, so neither the number of threads nor a restart changes it, and the gradient recomputes
// it.
#include "backend/cpu/kernels.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"

namespace mora::cpu {

namespace {

constexpr int kBlocks = 16;            // of Philox at once: a vector of each of their four words
constexpr int64_t kRun = 4 * kBlocks;  // numbers in them

// The bits of numbers [4 block, 4 block + kRun), those of philox() at counters {block, ...} on.
void philox_run(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key, uint32_t* bits) {
  uint32_t c[4][kBlocks];
  for (int l = 0; l < kBlocks; ++l) {
    c[0][l] = counter[0] + static_cast<uint32_t>(l);
    for (int w = 1; w < 4; ++w) c[w][l] = counter[static_cast<size_t>(w)];
  }
  for (int round = 0; round < 10; ++round) {
    for (int l = 0; l < kBlocks; ++l) {
      const auto next = philox_round({c[0][l], c[1][l], c[2][l], c[3][l]}, key);
      for (int w = 0; w < 4; ++w) c[w][l] = next[static_cast<size_t>(w)];
    }
    key = next_philox_key(key);
  }
  for (int l = 0; l < kBlocks; ++l) {
    for (int w = 0; w < 4; ++w) bits[4 * l + w] = c[w][l];
  }
}

}  // namespace

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
    for (int64_t i = begin; i < end; i += kRun) {
      uint32_t bits[kRun];
      philox_run({static_cast<uint32_t>(i / 4), static_cast<uint32_t>(step[1]),
                  static_cast<uint32_t>(step[0]), attrs.stream},
                 key, bits);
      const int64_t length = std::min(end - i, kRun);
#pragma GCC ivdep
      for (int64_t j = 0; j < length; ++j) {
        const T value = value_as<T>(x[i + j]) * factor;
        y[i + j] = value_as<S>(bits[j] >= limit ? value : T(0));
      }
    }
  });
}

MORA_CPU_ACTIVATION_KERNEL(dropout)

}  // namespace mora::cpu
