// Data order from the counter-based generator: the epoch is the stream.
#include "mora/data/sampler.hpp"

#include <limits>

#include "mora/core/error.hpp"
#include "mora/core/random.hpp"

namespace mora {

namespace {

Random order_of_epoch(uint64_t seed, int64_t epoch, int64_t n) {
  ensure(n >= 0 && epoch >= 0 && epoch <= std::numeric_limits<uint32_t>::max(), "epoch ", epoch,
         " of ", n, " examples");
  return {seed, Purpose::data_order, static_cast<uint32_t>(epoch)};
}

}  // namespace

std::vector<int64_t> epoch_order(uint64_t seed, int64_t epoch, int64_t n) {
  return permutation(order_of_epoch(seed, epoch, n), n);
}

Sampler::Sampler(uint64_t seed, int64_t n) : seed_(seed), n_(n) {
  ensure(n > 0, "sampling from ", n, " examples");
  order_.resize(static_cast<size_t>(n));
}

int64_t Sampler::at(int64_t index) {
  ensure(index >= 0, "example at place ", index);
  if (index / n_ != epoch_) {
    epoch_ = index / n_;
    permutation(order_of_epoch(seed_, epoch_, n_), order_);
  }
  return order_[static_cast<size_t>(index % n_)];
}

}  // namespace mora
