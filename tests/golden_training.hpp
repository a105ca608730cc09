// The models and the twenty batches of the golden training runs (tests/golden), as mora loads them.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "golden.hpp"
#include "mora/data/sampler.hpp"
#include "mora/models/llama.hpp"
#include "mora/train/trainer.hpp"

namespace mora::testing {

struct LoadedModel {
  LlamaConfig config;
  ParameterStore store;
  Llama model;

  explicit LoadedModel(const std::filesystem::path& folder, Training training,
                       const std::function<void(ParameterStore&, Llama&)>& attach = {},
                       int64_t longest = 0, DType working = DType::f32)
      : config(read_llama_config(folder / "config.json")),
        store(working, working),
        model(config, store, training, longest) {
    if (attach) attach(store, model);
    store.allocate();
    load_weights(store, config, folder);
  }
};

// Sequences of tokens with labels as the goldens hold them: labels[t] is the next token or -100.
struct Sequences {
  std::vector<Example> examples;

  Sequences(std::span<const int32_t> ids, std::span<const int32_t> labels,
            std::span<const int32_t> lengths) {
    size_t at = 0;
    for (const int32_t length : lengths) {
      Example e;
      for (size_t i = 0; i < static_cast<size_t>(length); ++i) {
        e.tokens.push_back(ids[at + i]);
        e.weights.push_back(i > 0 && labels[at + i - 1] >= 0 ? 1.0f : 0.0f);
      }
      at += static_cast<size_t>(length);
      examples.push_back(std::move(e));
    }
  }
  std::vector<const Example*> pointers() const {
    std::vector<const Example*> p;
    for (const Example& e : examples) p.push_back(&e);
    return p;
  }
};

inline const Parameter& find(const ParameterStore& store, const std::string& name) {
  for (const Parameter& p : store.all()) {
    if (p.name == name) return p;
  }
  FAIL("no parameter " << name);
  throw std::logic_error("unreachable");
}

class StepData final : public ExampleSource {
 public:
  // From the tensors <prefix>input_ids and <prefix>labels.
  explicit StepData(const SafetensorsFile& golden, const std::string& prefix = "") {
    const auto ids = read_ints(golden, prefix + "input_ids"),
               labels = read_ints(golden, prefix + "labels");
    const auto lengths = read_ints(golden, "segment_lengths");
    const size_t tokens = ids.size() / 20;
    for (size_t s = 0; s < 20; ++s) {
      const std::span<const int32_t> all_ids(ids), all_labels(labels);
      const Sequences step(all_ids.subspan(s * tokens, tokens),
                           all_labels.subspan(s * tokens, tokens), lengths);
      examples_.insert(examples_.end(), step.examples.begin(), step.examples.end());
    }
  }
  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  ExampleView example(int64_t index) const override {
    return ExampleView(examples_[static_cast<size_t>(index)]);
  }

 private:
  std::vector<Example> examples_;
};

// The golden data come step by step, in order: the trainer's own order is undone by an inverse
// view.
class InOrder final : public ExampleSource {
 public:
  InOrder(const ExampleSource& data, uint64_t seed)
      : data_(data), place_(static_cast<size_t>(data.size())) {
    const auto order = epoch_order(seed, 0, data.size());
    for (size_t i = 0; i < order.size(); ++i)
      place_[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  }
  int64_t size() const override { return data_.size(); }
  ExampleView example(int64_t index) const override {
    return data_.example(place_[static_cast<size_t>(index)]);
  }

 private:
  const ExampleSource& data_;
  std::vector<int64_t> place_;
};

inline TrainConfig golden_training() {
  TrainConfig c;
  c.learning_rate = 5e-3;
  c.per_device_train_batch_size = 3;
  c.max_steps = 20;
  c.lr_scheduler_type = "cosine";
  c.warmup_steps = 5;
  c.weight_decay = 0.1;
  c.max_grad_norm = 0.5;
  return c;
}

}  // namespace mora::testing
