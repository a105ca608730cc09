// Packing whole examples into token buffers: each once an epoch, the same at every start, gradients
// those of the unpacked ones; documents apart inside a block.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "backend_under_test.hpp"
#include "mora/core/error.hpp"
#include "mora/core/random.hpp"
#include "mora/data/micro_batches.hpp"
#include "mora/data/sampler.hpp"
#include "mora/eval/loss.hpp"
#include "temporary_folder.hpp"
#include "tiny_training.hpp"
#include "train/step_graph.hpp"

using namespace mora;
using namespace mora::testing;

namespace {

std::vector<int32_t> random_lengths(uint64_t seed, size_t n, uint64_t longest) {
  const Random random(seed, Purpose::test);
  std::vector<int32_t> lengths(n);
  for (size_t i = 0; i < n; ++i) lengths[i] = 1 + static_cast<int32_t>(random.below(i, longest));
  return lengths;
}

// First fit as its definition says.
std::vector<std::vector<int64_t>> first_fit(const std::vector<int64_t>& order,
                                            const std::vector<int32_t>& lengths, int64_t capacity) {
  std::vector<std::vector<int64_t>> batches;
  std::vector<int64_t> used;
  for (const int64_t e : order) {
    const int64_t length = lengths[static_cast<size_t>(e)];
    size_t b = 0;
    while (b < used.size() && used[b] + length > capacity) ++b;
    if (b == used.size()) {
      used.push_back(0);
      batches.emplace_back();
    }
    used[b] += length;
    batches[b].push_back(e);
  }
  return batches;
}

std::vector<int64_t> at(MicroBatches& order, int64_t index) {
  const auto members = order.at(index);
  return {members.begin(), members.end()};
}

// The same examples, to be packed.
class Packed final : public ExampleSource {
 public:
  Packed(const ExampleSource& data, int64_t longest) : data_(data), longest_(longest) {}
  int64_t size() const override { return data_.size(); }
  ExampleView example(int64_t index) const override { return data_.example(index); }
  int64_t packed_length() const override { return longest_; }

 private:
  const ExampleSource& data_;
  int64_t longest_;
};

const TinyOptions kWide{.working = DType::f64, .frozen_matrices = DType::f64};

// Loss and gradients of one batch, over the sum of its weights.
struct Result {
  double loss;
  std::vector<double> gradients;
};

Result compute(const TinyLlama& tiny, const Batch& batch, double weight_sum) {
  MicroGraph micro(tiny.model, tiny.store, batch.capacity(), 0);
  micro.batch.fill(batch, 1 / weight_sum);
  std::ranges::fill(tiny.store.gradients().as<double>(), 0.0);
  const auto backend = backend_under_test(MatmulProvider::eigen);
  Workspace workspace;
  Plan plan(micro.graph, std::array{micro.loss}, *backend, workspace);
  plan.run();
  const auto g = tiny.store.gradients().as<double>();
  return {plan[micro.loss].as<double>()[0], {g.begin(), g.end()}};
}

double largest_difference(const Result& a, const Result& b) {
  double most = std::abs(a.loss - b.loss);
  for (size_t i = 0; i < a.gradients.size(); ++i)
    most = std::max(most, std::abs(a.gradients[i] - b.gradients[i]));
  return most;
}

void add(Result& sum, const Result& more) {
  sum.loss += more.loss;
  sum.gradients.resize(more.gradients.size());
  for (size_t i = 0; i < more.gradients.size(); ++i) sum.gradients[i] += more.gradients[i];
}

}  // namespace

TEST_SUITE("packing") {
  TEST_CASE("first fit in the seeded order, every example once in each epoch") {
    for (const size_t n : {1u, 2u, 3u, 50u, 257u}) {
      for (const int64_t capacity : {40, 64, 1000}) {
        INFO(n << " in " << capacity);
        const auto lengths = random_lengths(n, n, 40);
        const int64_t all = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
        const auto order = packed_micro_batches(9, lengths, capacity);
        CHECK(order->capacity(1) == std::min(capacity, all));
        int64_t index = 0;
        for (int64_t epoch = 0; epoch < 4; ++epoch) {
          const auto expected =
              first_fit(epoch_order(9, epoch, static_cast<int64_t>(n)), lengths, capacity);
          CHECK(order->epochs(index) == static_cast<double>(epoch));
          std::multiset<int64_t> seen;
          for (const auto& batch : expected) {
            const auto found = at(*order, index++);
            CHECK(found == batch);
            seen.insert(found.begin(), found.end());
          }
          CHECK(seen.size() == n);
          CHECK(std::set(seen.begin(), seen.end()).size() == n);
          CHECK(order->count(static_cast<double>(epoch) + 1) == static_cast<double>(index));
        }
      }
    }
  }

  TEST_CASE("a start in the middle, and going back, give the same micro-batches") {
    const auto lengths = random_lengths(1, 90, 30);
    const auto whole = packed_micro_batches(4, lengths, 64);
    std::vector<std::vector<int64_t>> all;
    for (int64_t i = 0; i < 150; ++i) all.push_back(at(*whole, i));
    for (const int64_t from : {0, 1, 20, 77, 149}) {
      const auto resumed = packed_micro_batches(4, lengths, 64);
      for (int64_t i = from; i < 150; ++i) CHECK(at(*resumed, i) == all[static_cast<size_t>(i)]);
    }
    for (int64_t i = 149; i >= 0; --i) CHECK(at(*whole, i) == all[static_cast<size_t>(i)]);
    CHECK(at(*packed_micro_batches(5, lengths, 64), 0) != all[0]);
  }

  TEST_CASE("broken epochs, too many of them, and examples that do not fit") {
    const auto lengths = random_lengths(1, 90, 30);
    const auto order = packed_micro_batches(4, lengths, 64);
    const double one = order->count(1);
    CHECK(order->count(0.5) == std::ceil(one / 2));
    CHECK(order->count(0.001) == 1);
    CHECK(order->count(2.5) > order->count(2));
    message_of(ErrorKind::usage, [&] { order->count(1e9); });
    CHECK(message_of(ErrorKind::usage, [&] {
            packed_micro_batches(4, {3, 70, 5}, 64);
          }).find("70 tokens does not fit 64") != std::string::npos);
  }

  TEST_CASE("counted micro-batches are the sampler's sequence, and know their largest") {
    const auto lengths = random_lengths(3, 23, 30);
    const auto order = counted_micro_batches(6, lengths, 4);
    Sampler sampler(6, 23);
    int64_t most = 0;
    for (int64_t m = 0; m < 20; ++m) {
      int64_t tokens = 0;
      const auto found = at(*order, m);
      REQUIRE(found.size() == 4);
      for (int64_t i = 0; i < 4; ++i) {
        CHECK(found[static_cast<size_t>(i)] == sampler.at(m * 4 + i));
        tokens += lengths[static_cast<size_t>(found[static_cast<size_t>(i)])];
      }
      most = std::max(most, tokens);
    }
    CHECK(order->capacity(20) == most);
    CHECK(order->count(2) == 11.5);
    CHECK(order->epochs(23) == 4);
  }

  TEST_CASE("gradients of packed examples are those of each alone, to rounding") {
    TinyExamples data(17);
    std::vector<AdapterKind> kinds = adapter_kinds();
    kinds.push_back({"full", full_training()});
    for (AdapterKind& kind : kinds) {
      INFO(kind.name);
      kind.config.lora_dropout = 0;
      const TinyLlama tiny(kind.config, kWide);
      std::vector<const Example*> all;
      int64_t tokens = 9;  // unused slots
      for (const Example& e : data.examples()) {
        all.push_back(&e);
        tokens += static_cast<int64_t>(e.tokens.size());
      }
      const Batch together = pack(all, tokens);
      const Result packed = compute(tiny, together, together.weight_sum);
      Result sum{};
      for (const Example* e : all)
        add(sum, compute(tiny, pack(std::array{e}, static_cast<int64_t>(e->tokens.size())),
                         together.weight_sum));
      CHECK(largest_difference(packed, sum) < 1e-13);
    }
  }

  TEST_CASE("documents apart inside a block count as the same documents apart in a batch") {
    const Random random(5, Purpose::test);
    std::vector<int32_t> block(40);
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<int32_t>(random.below(i, 61));
    const std::vector<uint64_t> cuts = {100 + 7, 100 + 8, 100 + 25};  // of a stream from 100 on
    ExampleView within{TokenSpan(block)};
    within.cuts = cuts;
    within.offset = 100;
    Batch batch(44), apart(44), across(44);
    batch.append(within);
    for (const auto& [begin, end] :
         {std::pair{0, 7}, std::pair{7, 8}, std::pair{8, 25}, std::pair{25, 40}}) {
      const std::vector<int32_t> part(block.begin() + begin, block.begin() + end);
      apart.append(ExampleView(TokenSpan(part)));
    }
    CHECK(batch.tokens == apart.tokens);
    CHECK(batch.positions == apart.positions);
    CHECK(batch.segment_start == apart.segment_start);
    CHECK(batch.weights == apart.weights);
    for (size_t i = 0; i < batch.labels.size(); ++i)
      if (batch.weights[i] > 0) CHECK(batch.labels[i] == apart.labels[i]);
    CHECK(batch.weight_sum == 40 - 4);
    CHECK(within.weight(7) == 0);
    CHECK(within.weight(9) == 1);
    across.append(ExampleView(TokenSpan(block)));
    CHECK(across.weight_sum == 39);

    const TinyLlama tiny(full_training(), kWide);
    CHECK(largest_difference(compute(tiny, batch, 36), compute(tiny, apart, 36)) == 0);
    CHECK(largest_difference(compute(tiny, batch, 36), compute(tiny, across, 36)) > 1e-3);
  }

  TEST_CASE(
      "training on packed examples: full buffers, and a resumed run is the same to the byte") {
    const TinyExamples data(60);
    const Packed packed(data, 23);
    TrainConfig config = tiny_train_config(3, 2);
    config.max_steps = -1;
    config.num_train_epochs = 3;
    const TrainingSetup setup{.adapter = adapter_kind("mora", "sharing").config};
    TinyTraining whole(setup, packed, config), plain(setup, data, config);
    CHECK(whole.trainer.capacity() == 69);
    CHECK(whole.trainer.fill() > 0.8);
    CHECK(plain.trainer.fill() < whole.trainer.fill());
    CHECK(whole.trainer.total_steps() < plain.trainer.total_steps());
    const auto total = static_cast<int>(whole.trainer.total_steps());
    whole.steps(total);
    CHECK(whole.trainer.epoch() >= 3);
    CHECK(whole.trainer.epoch() < 3.2);

    TinyTraining first(setup, packed, config), second(setup, packed, config);
    first.steps(total / 2);
    const auto copy = [](const Tensor& from, const Tensor& to) { convert(from, to); };
    copy(first.tiny.store.values(), second.tiny.store.values());
    copy(first.tiny.store.exp_avg(), second.tiny.store.exp_avg());
    copy(first.tiny.store.exp_avg_sq(), second.tiny.store.exp_avg_sq());
    second.trainer.resume_at(total / 2);
    second.steps(total - total / 2);
    CHECK(second.state() == whole.state());
  }

  TEST_CASE("held-out loss fills its batches by tokens, and is that of each example alone") {
    const TinyExamples data(31);
    const TinyLlama tiny(full_training(), kWide);
    const auto backend = backend_under_test(MatmulProvider::eigen);
    Workspace workspace;
    const auto loss = [&](int64_t count, int64_t batch) {
      return example_losses(tiny.model, tiny.store, data, count, batch, *backend, workspace);
    };
    for (const int64_t count : {1, 5, 31}) {
      const std::vector<MeanLoss> alone = loss(count, 1);
      REQUIRE(alone.size() == static_cast<size_t>(count));
      for (const int64_t batch : {2, 7, 1000}) {
        const std::vector<MeanLoss> together = loss(count, batch);
        REQUIRE(together.size() == alone.size());
        for (size_t i = 0; i < alone.size(); ++i) {
          CHECK(together[i].loss == doctest::Approx(alone[i].loss).epsilon(1e-12));
          CHECK(together[i].tokens == alone[i].tokens);
        }
        CHECK(mean_loss(together).loss == doctest::Approx(mean_loss(alone).loss).epsilon(1e-12));
      }
    }
  }
}
