// The batches of steps prepared ahead are those that would be made on demand, in any order of
// asking, and what goes wrong while reading reaches the one who asks.
#include "train/step_loader.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("step_loader");

namespace mora::testing {
namespace {

constexpr uint64_t kSeed = 4;
constexpr int64_t kPerBatch = 3, kMicroBatches = 2, kCapacity = 80, kSteps = 9;

std::unique_ptr<MicroBatches> order_of(const ExampleSource& data) {
  std::vector<int32_t> lengths;
  for (int64_t i = 0; i < data.size(); ++i)
    lengths.push_back(static_cast<int32_t>(data.example(i).tokens.size()));
  return counted_micro_batches(kSeed, std::move(lengths), kPerBatch);
}

void check_step(std::span<const Batch> batches, const ExampleSource& data, int64_t step) {
  const auto order = order_of(data);
  REQUIRE(batches.size() == kMicroBatches);
  for (int64_t m = 0; m < kMicroBatches; ++m) {
    Batch expected(kCapacity);
    expected.clear();
    for (const int64_t e : order->at(step * kMicroBatches + m)) expected.append(data.example(e));
    const Batch& found = batches[static_cast<size_t>(m)];
    CHECK(found.tokens == expected.tokens);
    CHECK(found.segment_start == expected.segment_start);
    CHECK(found.weights == expected.weights);
    CHECK(found.tokens_used == expected.tokens_used);
  }
}

TEST_CASE("steps are those of the order, asked for one after another, again, and from anywhere") {
  const TinyExamples data(20);
  StepLoader loader(data, order_of(data), kMicroBatches, kCapacity, kSteps);
  for (const int64_t step : {5, 6, 6, 7, 8, 0, 1, 2, 4, 3, 8}) {
    INFO(step);
    check_step(loader.at(step), data, step);
  }
}

// Notes who reads, and fails at one example.
class Watched final : public ExampleSource {
 public:
  explicit Watched(const ExampleSource& data) : data_(data) {}
  int64_t size() const override { return data_.size(); }
  ExampleView example(int64_t index) const override {
    if (std::this_thread::get_id() != owner_) ++elsewhere;
    ++reads;
    if (index == fails_at) fail(ErrorKind::data, "example ", index, " is damaged");
    return data_.example(index);
  }
  mutable std::atomic<int64_t> reads{0}, elsewhere{0};
  std::atomic<int64_t> fails_at{-1};

 private:
  const ExampleSource& data_;
  std::thread::id owner_ = std::this_thread::get_id();
};

TEST_CASE("the next step is read in another thread, before it is asked for, and no further") {
  const TinyExamples examples(20);
  const Watched data(examples);
  StepLoader loader(data, order_of(examples), kMicroBatches, kCapacity, kSteps);
  loader.at(0);
  while (data.reads < 2 * kMicroBatches * kPerBatch)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  CHECK(data.elsewhere == kMicroBatches * kPerBatch);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(data.reads == 2 * kMicroBatches * kPerBatch);  // memory is bounded
  loader.at(kSteps - 1);
  const int64_t reads = data.reads;
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  CHECK(data.reads == reads);  // nothing follows the last step
}

TEST_CASE("an error of reading ahead comes with the step it belongs to") {
  const TinyExamples examples(60);  // each is read once
  Watched data(examples);
  const auto order = order_of(examples);
  data.fails_at = order->at(3 * kMicroBatches)[1];
  StepLoader loader(data, order_of(examples), kMicroBatches, kCapacity, kSteps);
  for (const int64_t step : {0, 1, 2}) check_step(loader.at(step), examples, step);
  CHECK_THROWS_AS(loader.at(3), Error);
  CHECK_THROWS_AS(loader.at(3), Error);
  check_step(loader.at(4), examples, 4);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
