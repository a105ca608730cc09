// What a model's folder must hold: exactly the tensors of its configuration. Others are listed,
// none is made up, and nothing that would be another model's is passed over.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "mora/io/safetensors_folder.hpp"
#include "mora/models/llama.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("model weights");

namespace mora::testing {
namespace {

constexpr const char *kEmbedding = "model.embed_tokens.weight", *kOutput = "lm_head.weight";

// The weights of a tiny model, to be changed before they are written.
struct Weights {
  LlamaConfig config;
  ParameterStore store;
  std::deque<OwnedTensor> added;
  std::vector<StoredTensor> tensors;

  explicit Weights(bool tied) : config(tiny_config({.tied = tied})) {
    const Llama model(config, store, Training::frozen);
    store.allocate();
    store.initialise(5);
    for (const Parameter& p : store.all()) tensors.push_back(stored({p.name, p.value}));
  }

  StoredTensor& find(const std::string& name) {
    return *std::ranges::find(tensors, name, &StoredTensor::name);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors, [&](const StoredTensor& t) { return t.name == name; });
  }
  OwnedTensor& add(const std::string& name, const Shape& shape, DType dtype = DType::f32) {
    OwnedTensor& tensor = added.emplace_back(Type{dtype, shape});
    tensors.push_back(stored({name, tensor.view()}));
    return tensor;
  }
  // A second tensor with the embedding's values.
  OwnedTensor& add_output() {
    const auto embedding = std::ranges::find(store.all(), kEmbedding, &Parameter::name);
    OwnedTensor& output = add(kOutput, embedding->shape);
    convert(embedding->value, output.view());
    return output;
  }

  // Loads what the folder holds, in one file or in many.
  void load(uint64_t limit) const {
    const TemporaryFolder folder;
    write_safetensors_folder(folder.path(), tensors, limit);
    ParameterStore loaded;
    const Llama model(config, loaded, Training::frozen);
    loaded.allocate();
    load_weights(loaded, config, folder.path());
    for (size_t i = 0; i < loaded.all().size(); ++i) {
      CHECK(
          std::ranges::equal(loaded.all()[i].value.as<float>(), store.all()[i].value.as<float>()));
    }
  }
  std::string refusal() const {
    std::string messages[2];
    for (const uint64_t limit : {kMaxShardBytes, uint64_t{1000}}) {
      messages[limit == 1000 ? 1 : 0] = message_of(ErrorKind::data, [&] { load(limit); });
    }
    const auto problems = [](const std::string& m) {
      return m.substr(std::min(m.find('\n'), m.size()));
    };
    CHECK(problems(messages[0]) == problems(messages[1]));
    return messages[0];
  }
};

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("missing, unexpected and misshapen tensors are listed together") {
  Weights weights(false);
  const std::string norm = "model.norm.weight", q = "model.layers.0.self_attn.q_proj.weight";
  weights.remove(norm);
  weights.remove(kOutput);
  weights.find(q).name = "model.layers.0.self_attn.query.weight";
  weights.add("model.layers.2.input_layernorm.weight", {16});
  weights.add("score.weight", {2, 16});
  weights.remove(kEmbedding);
  weights.add(kEmbedding, {weights.config.vocab_size + 1, weights.config.hidden_size});
  const std::string message = weights.refusal();
  INFO(message);
  for (const std::string& part :
       {"missing: " + norm, "missing: " + std::string(kOutput), "missing: " + q,
        std::string("unexpected: model.layers.0.self_attn.query.weight"),
        std::string("unexpected: model.layers.2.input_layernorm.weight F32[16]"),
        std::string("unexpected: score.weight F32[2, 16]"),
        "wrong shape: " + std::string(kEmbedding)}) {
    CHECK_MESSAGE(has(message, part), part);
  }
  CHECK(std::ranges::count(message, '\n') == 7);
}

TEST_CASE("a vocabulary of another size is refused, whichever is larger") {
  for (const int64_t change : {-1, 1, 64}) {
    for (const bool tied : {false, true}) {
      Weights weights(tied);
      weights.config.vocab_size += change;
      const std::string message = weights.refusal();
      CHECK(has(message, "wrong shape: " + std::string(kEmbedding)));
      CHECK(has(message, kOutput) == !tied);
    }
  }
}

TEST_CASE("buffers and a second copy of a tied output are passed over") {
  for (const bool tied : {false, true}) {
    Weights weights(tied);
    weights.add("model.layers.0.self_attn.rotary_emb.inv_freq", {4});
    weights.add("model.layers.1.self_attn.rotary_emb.inv_freq", {4});
    if (tied) weights.add_output();
    CHECK_NOTHROW(weights.load(kMaxShardBytes));
    CHECK_NOTHROW(weights.load(1000));
  }
}

TEST_CASE("a tied output that differs from the embedding is refused: it would be another model") {
  Weights changed(true);
  changed.add_output().as<float>().back() += 1;
  CHECK(has(changed.refusal(), "lm_head.weight is not model.embed_tokens.weight"));
  Weights misshapen(true);
  misshapen.add(kOutput, {3, 16});
  CHECK(has(misshapen.refusal(), "lm_head.weight is not model.embed_tokens.weight"));
  Weights alone(true);
  alone.add_output();
  alone.remove(kEmbedding);
  CHECK(has(alone.refusal(), "missing: " + std::string(kEmbedding)));
}

TEST_CASE("weights that are no floating-point numbers are refused by name") {
  for (const char* type : {"I8", "U8", "I64", "F8_E4M3", "F8_E5M2", "BOOL", "I32"}) {
    INFO(type);
    Weights weights(false);
    StoredTensor& norm = weights.find("model.norm.weight");
    norm.dtype = type;
    const std::string bytes(stored_bytes(norm), '\0');
    norm.write = [bytes](const ByteSink& sink) { sink(std::as_bytes(std::span(bytes))); };
    const std::string message = weights.refusal();
    CHECK_MESSAGE(has(message, "model.norm.weight"), message);
    CHECK_MESSAGE(has(message, type), message);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
