// First fit by a tree over the micro-batches: each node knows the most room among its leaves, so
// that the earliest one with enough room is found in O(log n).
#include "mora/data/micro_batches.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "mora/core/error.hpp"
#include "mora/data/sampler.hpp"

namespace mora {

namespace {

class CountedMicroBatches final : public MicroBatches {
 public:
  CountedMicroBatches(uint64_t seed, std::vector<int32_t> lengths, int64_t per_batch)
      : seed_(seed),
        lengths_(std::move(lengths)),
        sampler_(seed, static_cast<int64_t>(lengths_.size())),
        members_(static_cast<size_t>(per_batch)) {}

  std::span<const int64_t> at(int64_t index) override {
    const int64_t first = index * per_batch();
    for (int64_t i = 0; i < per_batch(); ++i)
      members_[static_cast<size_t>(i)] = sampler_.at(first + i);
    return members_;
  }

  double count(double epochs) override {
    return epochs * static_cast<double>(lengths_.size()) / static_cast<double>(per_batch());
  }

  double epochs(int64_t index) override {
    return static_cast<double>(index * per_batch()) / static_cast<double>(lengths_.size());
  }

  // Known beforehand, because the order of the data is. Runs of more examples than anyone waits for
  // get what no batch can exceed.
  int64_t capacity(int64_t micro_batches) override {
    const auto [shortest, longest] = std::ranges::minmax(lengths_);
    constexpr double kMostDraws = 1e8;
    const double draws = static_cast<double>(micro_batches) * static_cast<double>(per_batch());
    if (shortest == longest || draws > kMostDraws) return per_batch() * longest;
    Sampler sampler(seed_, static_cast<int64_t>(lengths_.size()));
    int64_t most = 0;
    for (int64_t m = 0; m < micro_batches; ++m) {
      int64_t tokens = 0;
      for (int64_t i = 0; i < per_batch(); ++i)
        tokens += lengths_[static_cast<size_t>(sampler.at(m * per_batch() + i))];
      most = std::max(most, tokens);
    }
    return most;
  }

 private:
  int64_t per_batch() const { return static_cast<int64_t>(members_.size()); }

  uint64_t seed_;
  std::vector<int32_t> lengths_;
  Sampler sampler_;
  std::vector<int64_t> members_;  // of the micro-batch last asked for
};

// The room in micro-batches that may be begun, all empty at first.
class Rooms {
 public:
  Rooms(size_t count, int64_t capacity) : leaves_(std::bit_ceil(count)), capacity_(capacity) {
    room_.resize(2 * leaves_);
    clear();
  }

  void clear() { std::ranges::fill(room_, capacity_); }

  // Takes `length` from the first that has so much, and returns which.
  size_t take(int64_t length) {
    size_t node = 1;
    while (node < leaves_) node = room_[2 * node] >= length ? 2 * node : 2 * node + 1;
    const size_t found = node - leaves_;
    room_[node] -= length;
    for (node /= 2; node > 0; node /= 2)
      room_[node] = std::max(room_[2 * node], room_[2 * node + 1]);
    return found;
  }

 private:
  size_t leaves_;
  int64_t capacity_;
  std::vector<int64_t> room_;  // a heap: the leaves are the last half
};

class PackedMicroBatches final : public MicroBatches {
 public:
  PackedMicroBatches(uint64_t seed, std::vector<int32_t> lengths, int64_t capacity)
      : lengths_(std::move(lengths)),
        tokens_(std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0})),
        capacity_(std::min(capacity, tokens_)),
        sampler_(seed, static_cast<int64_t>(lengths_.size())),
        rooms_(lengths_.size(), capacity_),
        batch_of_(lengths_.size()),
        members_(lengths_.size()) {
    if (const auto longest = std::ranges::max(lengths_); longest > capacity)
      fail(ErrorKind::usage, "an example of ", longest, " tokens does not fit ", capacity,
           " token slots");
    ends_.reserve(lengths_.size());
  }

  std::span<const int64_t> at(int64_t index) override {
    ensure(index >= 0, "micro-batch ", index);
    const int64_t epoch = epoch_of(index);
    pack(epoch);
    const auto i = static_cast<size_t>(index - starts_[static_cast<size_t>(epoch)]);
    const size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::span(members_).subspan(begin, ends_[i] - begin);
  }

  double count(double epochs) override {
    constexpr double kMostEpochs = 1e5;
    if (epochs > kMostEpochs) {
      fail(ErrorKind::usage, "train.num_train_epochs: ", epochs,
           " with data.packing, expected at most ", kMostEpochs, "; give train.max_steps");
    }
    const auto whole = static_cast<int64_t>(epochs);
    const double part = epochs - static_cast<double>(whole);
    double all = static_cast<double>(start_of(whole));
    if (part > 0)
      all += std::ceil(part * static_cast<double>(start_of(whole + 1) - start_of(whole)));
    return all;
  }

  double epochs(int64_t index) override {
    const int64_t epoch = epoch_of(index), start = start_of(epoch);
    return static_cast<double>(epoch) +
           static_cast<double>(index - start) / static_cast<double>(start_of(epoch + 1) - start);
  }

  int64_t capacity(int64_t) override { return capacity_; }

 private:
  // The first micro-batch of an epoch.
  int64_t start_of(int64_t epoch) {
    while (epoch >= static_cast<int64_t>(starts_.size())) {
      pack(static_cast<int64_t>(starts_.size()) - 1);
      starts_.push_back(starts_.back() + static_cast<int64_t>(ends_.size()));
    }
    return starts_[static_cast<size_t>(epoch)];
  }

  int64_t epoch_of(int64_t index) {
    while (starts_.back() <= index) start_of(static_cast<int64_t>(starts_.size()));
    return std::ranges::upper_bound(starts_, index) - starts_.begin() - 1;
  }

  void pack(int64_t epoch) {
    if (epoch == epoch_) return;
    epoch_ = epoch;
    const auto n = static_cast<int64_t>(lengths_.size());
    rooms_.clear();
    ends_.clear();
    for (int64_t i = 0; i < n; ++i) {
      const int64_t length = lengths_[static_cast<size_t>(sampler_.at(epoch * n + i))];
      const size_t batch = rooms_.take(length);
      batch_of_[static_cast<size_t>(i)] = batch;
      if (batch == ends_.size()) ends_.push_back(0);
      ++ends_[batch];
    }
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
    // From the back: each end walks to its batch's beginning, and then all are moved on by one.
    for (int64_t i = n - 1; i >= 0; --i)
      members_[--ends_[batch_of_[static_cast<size_t>(i)]]] = sampler_.at(epoch * n + i);
    std::shift_left(ends_.begin(), ends_.end(), 1);
    ends_.back() = static_cast<size_t>(n);
  }

  std::vector<int32_t> lengths_;
  int64_t tokens_;  // of all examples
  int64_t capacity_;
  Sampler sampler_;
  Rooms rooms_;
  std::vector<int64_t> starts_ = {0};  // of the epochs packed so far, and of the next
  int64_t epoch_ = -1;                 // what the rest is about
  std::vector<size_t> batch_of_;       // by place in the epoch's order
  std::vector<int64_t> members_;       // of all micro-batches, one after the other
  std::vector<size_t> ends_;           // one past each micro-batch's last member
};

}  // namespace

std::unique_ptr<MicroBatches> counted_micro_batches(uint64_t seed, std::vector<int32_t> lengths,
                                                    int64_t per_batch) {
  return std::make_unique<CountedMicroBatches>(seed, std::move(lengths), per_batch);
}

std::unique_ptr<MicroBatches> packed_micro_batches(uint64_t seed, std::vector<int32_t> lengths,
                                                   int64_t capacity) {
  return std::make_unique<PackedMicroBatches>(seed, std::move(lengths), capacity);
}

}  // namespace mora
