#include "benchmarks/python_random.hpp"

#include <algorithm>
#include <bit>
#include <numeric>

#include "mora/core/error.hpp"

namespace mora::benchmarks {

namespace {

// A seed sequence of the standard library: the generator's init_by_array with one key.
class InitByArray {
 public:
  using result_type = uint_least32_t;

  explicit InitByArray(uint32_t key) : key_(key) {}

  template <class Iterator>
  void generate(Iterator begin, Iterator end) const {
    std::vector<uint32_t> state(static_cast<size_t>(end - begin));
    const size_t n = state.size();
    const auto mixed = [&](size_t i) { return state[i - 1] ^ (state[i - 1] >> 30); };
    state[0] = 19650218;
    for (size_t i = 1; i < n; ++i) state[i] = 1812433253u * mixed(i) + static_cast<uint32_t>(i);
    size_t at = 1;
    const auto next = [&] {
      if (++at < n) return;
      state[0] = state[n - 1];
      at = 1;
    };
    for (size_t step = 0; step < n; ++step, next())
      state[at] = (state[at] ^ (mixed(at) * 1664525u)) + key_;
    for (size_t step = 1; step < n; ++step, next())
      state[at] = (state[at] ^ (mixed(at) * 1566083941u)) - static_cast<uint32_t>(at);
    state[0] = 0x80000000u;
    std::ranges::copy(state, begin);
  }

 private:
  uint32_t key_;
};

std::mt19937 seeded(uint32_t seed) {
  InitByArray sequence(seed);
  return std::mt19937(sequence);
}

// Whether Python draws from a list of what is left, or again what it has drawn already.
bool keeps_list(size_t n, size_t k) {
  size_t limit = 21;
  if (k > 5) {
    size_t power = 1;
    while (power < 3 * k) power *= 4;
    limit += power;
  }
  return n <= limit;
}

}  // namespace

PythonRandom::PythonRandom(uint32_t seed) : engine_(seeded(seed)) {}

size_t PythonRandom::below(size_t n) {
  const int bits = std::bit_width(n);
  size_t drawn = n;
  while (drawn >= n) drawn = engine_() >> (32 - bits);
  return drawn;
}

std::vector<size_t> PythonRandom::sample(size_t n, size_t k) {
  ensure(k <= n && std::bit_width(n) <= 32, "a sample of ", k, " from ", n);
  std::vector<size_t> drawn;
  if (keeps_list(n, k)) {
    std::vector<size_t> left(n);
    std::iota(left.begin(), left.end(), size_t{0});
    for (size_t i = 0; i < k; ++i) {
      const size_t at = below(n - i);
      drawn.push_back(left[at]);
      left[at] = left[n - i - 1];
    }
    return drawn;
  }
  while (drawn.size() < k) {
    const size_t number = below(n);
    if (std::ranges::find(drawn, number) == drawn.end()) drawn.push_back(number);
  }
  return drawn;
}

}  // namespace mora::benchmarks
