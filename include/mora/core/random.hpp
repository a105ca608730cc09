// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC'11).
//
// A number is a pure function of (seed, purpose, stream, index): it never depends on how many were
// drawn before, on the number of threads, or on a restart. Nothing but the seed is state.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace mora {

inline constexpr std::array<uint32_t, 2> kPhiloxFactors = {0xD2511F53u, 0xCD9E8D57u};

// One of Philox's ten rounds, and the key of the next.
constexpr std::array<uint32_t, 4> philox_round(std::array<uint32_t, 4> c,
                                               std::array<uint32_t, 2> k) {
  const uint64_t a = uint64_t{kPhiloxFactors[0]} * c[0];
  const uint64_t b = uint64_t{kPhiloxFactors[1]} * c[2];
  return {static_cast<uint32_t>(b >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(b),
          static_cast<uint32_t>(a >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(a)};
}
constexpr std::array<uint32_t, 2> next_philox_key(std::array<uint32_t, 2> k) {
  return {k[0] + 0x9E3779B9u, k[1] + 0xBB67AE85u};
}

// The raw block function: 128-bit counter, 64-bit key, 128 random bits.
constexpr std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    c = philox_round(c, k);
    k = next_philox_key(k);
  }
  return c;
}

// What a number is for: separates streams that share a seed.
enum class Purpose : uint32_t {
  init = 1,
  dropout = 2,
  data_order = 3,
  generator = 4,
  sampling = 5,
  test = 6,
  restart = 7,
  grouping = 8
};

// The key of a purpose whose counters leave no room for it.
constexpr std::array<uint32_t, 2> philox_key(uint64_t seed, Purpose purpose) {
  return {static_cast<uint32_t>(seed),
          static_cast<uint32_t>(seed >> 32) ^ (static_cast<uint32_t>(purpose) << 24)};
}

// A stream's number from a name (FNV-1a), so that a parameter's initial values depend on its name
// and nothing else.
uint32_t stream_of(std::string_view name);

// Random access into one stream.
class Random {
 public:
  Random(uint64_t seed, Purpose purpose, uint32_t stream = 0)
      : key_{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)},
        purpose_(static_cast<uint32_t>(purpose)),
        stream_(stream) {}

  std::array<uint32_t, 4> block(uint64_t index) const {
    return philox(
        {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), stream_, purpose_},
        key_);
  }
  uint32_t bits(uint64_t index) const { return block(index / 4)[index % 4]; }
  double uniform(uint64_t index) const;  // in [0, 1), 53 bits
  double normal(uint64_t index) const;   // N(0, 1), Box-Muller
  uint64_t below(uint64_t index,
                 uint64_t bound) const;  // in [0, bound), bound > 0, bias below 2^-64 * bound

 private:
  std::array<uint32_t, 2> key_;
  uint32_t purpose_;
  uint32_t stream_;
};

// A permutation of 0..n-1, a pure function of the stream (Fisher-Yates); n is the size of `order`.
void permutation(const Random& random, std::span<int64_t> order);
std::vector<int64_t> permutation(const Random& random, int64_t n);

}  // namespace mora
