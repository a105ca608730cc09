// Which examples each micro-batch of a run reads: a pure function of (seed, index of the
// micro-batch) and the examples' lengths, so that a resumed run goes on exactly where it stopped
// and nothing about the order needs to be saved.
//
// Every example is read once in each epoch. Keeps one epoch at a time; going on within it costs
// nothing, and entering epoch e costs the packing of the epochs up to e at most.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace mora {

class MicroBatches {
 public:
  virtual ~MicroBatches() = default;

  // The examples of micro-batch `index` >= 0, in their order; valid until the next call.
  virtual std::span<const int64_t> at(int64_t index) = 0;

  // Micro-batches in that many passes over the data, which may be broken; as a real number, because
  // an epoch of n examples in batches of b has n / b of them where batches cross epochs.
  virtual double count(double epochs) = 0;

  // Passes over the data before micro-batch `index`.
  virtual double epochs(int64_t index) = 0;

  // Token slots that the first `micro_batches` of them need.
  virtual int64_t capacity(int64_t micro_batches) = 0;
};

// `per_batch` examples each, in the order of Sampler; batches cross the ends of epochs.
std::unique_ptr<MicroBatches> counted_micro_batches(uint64_t seed, std::vector<int32_t> lengths,
                                                    int64_t per_batch);

// As many whole examples as fit `capacity` token slots: each epoch's order, by first fit (every
// example goes into the earliest micro-batch that still has room), micro-batches in the order in
// which they were begun. The number of them differs from epoch to epoch. A length above `capacity`
// is Error(usage).
std::unique_ptr<MicroBatches> packed_micro_batches(uint64_t seed, std::vector<int32_t> lengths,
                                                   int64_t capacity);

}  // namespace mora
