// A LLaMA of a few thousand numbers with any adapter, and sequences to train it on.
#pragma once

#include <string>
#include <vector>

#include "mora/adapters/adapters.hpp"
#include "mora/core/random.hpp"
#include "mora/models/llama.hpp"
#include "mora/train/example_source.hpp"
#include "mora/train/restarts.hpp"

namespace mora::testing {

// Every adapter method with every operator and grouping, r = 2, on all linear layers.
struct AdapterKind {
  std::string name;
  AdapterConfig config;
};

inline AdapterKind adapter_kind(const std::string& method, const std::string& operation = "",
                                const std::string& grouping = "strided") {
  AdapterKind kind{method + (operation.empty() ? "" : " " + operation + " " + grouping), {}};
  kind.config.method = method;
  kind.config.r = 2;
  kind.config.lora_alpha = 6;
  if (!operation.empty()) kind.config.operation = operation;
  kind.config.grouping = grouping;
  return kind;
}

// Its update is not a product of fewer numbers.
inline bool full_rank(const AdapterConfig& c) {
  return c.use_dora || c.operation == "rotation" || c.operation == "decoupling";
}

inline std::vector<AdapterKind> adapter_kinds() {
  std::vector<AdapterKind> all;
  const auto add = [&](AdapterKind kind, const std::string& name, auto change) {
    if (!name.empty()) kind.name = name;
    change(kind.config);
    all.push_back(std::move(kind));
  };
  const auto as_is = [](AdapterConfig&) {};
  add(adapter_kind("lora"), "", as_is);
  add(adapter_kind("lora"), "rslora", [](AdapterConfig& c) { c.use_rslora = true; });
  add(adapter_kind("lora"), "lora with dropout", [](AdapterConfig& c) { c.lora_dropout = 0.25; });
  add(adapter_kind("lora"), "gaussian", [](AdapterConfig& c) { c.init_lora_weights = "gaussian"; });
  add(adapter_kind("lora"), "asymmetric",
      [](AdapterConfig& c) { c.init_lora_weights = "asymmetric"; });
  add(adapter_kind("lora"), "dora", [](AdapterConfig& c) { c.use_dora = true; });
  add(adapter_kind("lora"), "rsdora", [](AdapterConfig& c) { c.use_dora = c.use_rslora = true; });
  add(adapter_kind("lora"), "dora with dropout", [](AdapterConfig& c) {
    c.use_dora = true;
    c.lora_dropout = 0.25;
  });
  for (const char* grouping : {"strided", "contiguous", "contiguous_strided", "strided_contiguous"})
    add(adapter_kind("mora", "sharing", grouping), "", as_is);
  add(adapter_kind("mora", "sharing", "random"), "", [](AdapterConfig& c) { c.grouping_seed = 9; });
  add(adapter_kind("mora", "sharing"), "mora sharing, scaled",
      [](AdapterConfig& c) { c.scale = 0.3; });
  add(adapter_kind("mora", "rotation"), "", as_is);
  add(adapter_kind("mora", "rotation"), "mora rotation, all blocks",
      [](AdapterConfig& c) { c.cover = "all"; });
  add(adapter_kind("mora", "rotation"), "mora rotation, all blocks, scaled", [](AdapterConfig& c) {
    c.cover = "all";
    c.scale = 3.7;
  });
  add(adapter_kind("mora", "decoupling"), "", as_is);
  add(adapter_kind("mora", "truncation"), "", as_is);
  return all;
}

// The same numbers for the same name, wherever and whenever.
inline void fill_random(const Tensor& t, const std::string& name, double scale) {
  const Random random(7, Purpose::test, stream_of(name));
  OwnedTensor wide({DType::f64, t.shape()});
  for (size_t i = 0; i < wide.as<double>().size(); ++i)
    wide.as<double>()[i] = scale * random.normal(i);
  convert(wide.view(), t);
}

// DoRA's magnitudes are no changes of something, so that they are around 1.
inline void add_one(const Tensor& t) {
  OwnedTensor wide({DType::f64, t.shape()});
  convert(t, wide.view());
  for (double& x : wide.as<double>()) x += 1;
  convert(wide.view(), t);
}

struct TinyOptions {
  bool tied = false;
  bool biases = false;
  DType working = DType::f32;
  DType frozen_matrices = DType::f32;
  bool restarts = false;  // adapters have a step count of their own
  int64_t layers = 2;
};

inline LlamaConfig tiny_config(const TinyOptions& options) {
  LlamaConfig c;
  c.vocab_size = 61;
  c.hidden_size = 24;
  c.intermediate_size = 40;
  c.num_hidden_layers = options.layers;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = 6;
  c.max_position_embeddings = 64;
  c.rms_norm_eps = 1e-5;
  c.initializer_range = 0.2;  // large, so that every part of the model matters
  c.tie_word_embeddings = options.tied;
  c.attention_bias = c.mlp_bias = options.biases;
  return c;
}

struct TinyLlama {
  AdapterConfig adapter;
  LlamaConfig config;
  ParameterStore store;
  Llama model;

  // Adapter weights are random too: at their start most gradients would be 0.
  explicit TinyLlama(const AdapterConfig& a, const TinyOptions& options = {})
      : adapter(a),
        config(tiny_config(options)),
        store(options.working, options.frozen_matrices),
        model(config, store, a.method == "full" ? Training::trained : Training::frozen) {
    if (a.method != "full") attach_adapters(a, store, model.linears());
    train_saved_modules(a, store);
    if (options.restarts) count_adapter_steps_apart(store);
    store.allocate();
    store.initialise(3);
    for (const Parameter& p : store.all()) {
      if (is_adapter_parameter(p)) fill_random(p.value, p.name, 0.1);
      if (p.name.ends_with("magnitude_vector")) add_one(p.value);
    }
  }
};

// Sequences of 2 to 23 tokens; every third has loss on its second half only.
class TinyExamples final : public ExampleSource {
 public:
  explicit TinyExamples(size_t count) {
    const Random random(11, Purpose::test);
    uint64_t next = 0;
    for (size_t i = 0; i < count; ++i) {
      Example e;
      const size_t length = 2 + random.below(next++, 22);
      for (size_t t = 0; t < length; ++t) {
        e.tokens.push_back(static_cast<int32_t>(random.below(next++, 61)));
        e.weights.push_back(t == 0 || (i % 3 == 0 && t < length / 2) ? 0.0f : 1.0f);
      }
      examples_.push_back(std::move(e));
    }
  }
  int64_t size() const override { return static_cast<int64_t>(examples_.size()); }
  ExampleView example(int64_t index) const override {
    return ExampleView(examples_[static_cast<size_t>(index)]);
  }
  std::vector<Example>& examples() { return examples_; }

 private:
  std::vector<Example> examples_;
};

}  // namespace mora::testing
