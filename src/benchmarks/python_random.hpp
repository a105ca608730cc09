// Python's random.Random(seed): the Mersenne Twister as Python seeds it, and what sample() draws.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace mora::benchmarks {

class PythonRandom {
 public:
  explicit PythonRandom(uint32_t seed);

  // sample(range(n), k): k different numbers below n, k <= n < 2^32, in the order drawn.
  std::vector<size_t> sample(size_t n, size_t k);

 private:
  size_t below(size_t n);

  std::mt19937 engine_;
};

}  // namespace mora::benchmarks
