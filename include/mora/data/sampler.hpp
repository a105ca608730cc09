// The order in which training reads its examples: a pure function of (seed, index), so that a
// resumed run goes on exactly where it stopped and nothing about the order needs to be saved.
#pragma once

#include <cstdint>
#include <vector>

namespace mora {

// The order of n >= 0 examples in one epoch, a permutation of 0..n-1. epoch >= 0.
std::vector<int64_t> epoch_order(uint64_t seed, int64_t epoch, int64_t n);

// An endless sequence of examples: every n in a row are one epoch, each in its own order. Keeps the
// order of one epoch at a time, in memory of its own from the start.
class Sampler {
 public:
  Sampler(uint64_t seed, int64_t n);  // n >= 1

  // The example at place `index` >= 0 of the sequence.
  int64_t at(int64_t index);

 private:
  uint64_t seed_;
  int64_t n_;
  int64_t epoch_ = -1;
  std::vector<int64_t> order_;  // of epoch_
};

}  // namespace mora
