// attention_bias and mlp_bias: which parameters they bring, how these start, train and are stored.
// What they compute is compared with transformers in parity_test.cpp.
#include <doctest/doctest.h>

#include <algorithm>

#include "mora/backend/backend.hpp"
#include "mora/eval/logits.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("bias");

namespace mora::testing {
namespace {

std::vector<const Parameter*> biases_of(const ParameterStore& store) {
  std::vector<const Parameter*> found;
  for (const Parameter& p : store.all()) {
    if (p.name.ends_with(".bias")) found.push_back(&p);
  }
  return found;
}

TinyLlama biased(const std::string& method) {
  return TinyLlama(adapter_kind(method).config, {.biases = true});
}

void fill_biases(const TinyLlama& tiny) {
  for (const Parameter* p : biases_of(tiny.store)) fill_random(p->value, p->name, 0.3);
}

OwnedTensor logits_of(const TinyLlama& tiny) {
  const std::vector<int32_t> ids = {3, 14, 15, 9, 26, 5};
  return sequence_logits(tiny.model, tiny.store, ids, *make_cpu_backend());
}

bool same(const Tensor& a, const Tensor& b) {
  return std::ranges::equal(a.as<float>(), b.as<float>());
}

TEST_CASE("each key brings the biases that transformers gives it") {
  for (const bool attention : {false, true}) {
    for (const bool mlp : {false, true}) {
      LlamaConfig config = tiny_config({});
      config.attention_bias = attention;
      config.mlp_bias = mlp;
      ParameterStore store;
      const Llama model(config, store, Training::trained);
      std::vector<std::string> names;
      for (const Parameter* p : biases_of(store)) {
        names.push_back(str(p->name, p->shape));
        CHECK(p->decay == Decay::no);
        CHECK(p->training == Training::trained);
      }
      std::vector<std::string> expected;
      for (const int layer : {0, 1}) {
        auto add = [&](const char* name) {
          expected.push_back(str("model.layers.", layer, ".", name));
        };
        if (attention) {
          add("self_attn.q_proj.bias[24]");
          add("self_attn.k_proj.bias[12]");
          add("self_attn.v_proj.bias[12]");
          add("self_attn.o_proj.bias[24]");
        }
        if (mlp) {
          add("mlp.gate_proj.bias[40]");
          add("mlp.up_proj.bias[40]");
          add("mlp.down_proj.bias[24]");
        }
      }
      CHECK(names == expected);
    }
  }
}

TEST_CASE("biases start at 0 and then change nothing; other values do") {
  const TinyLlama plain(adapter_kind("full").config), tiny = biased("full");
  for (const Parameter* p : biases_of(tiny.store)) {
    CHECK(std::ranges::all_of(p->value.as<float>(), [](float v) { return v == 0; }));
  }
  CHECK(same(logits_of(plain).view(), logits_of(tiny).view()));
  for (const Parameter* p : biases_of(tiny.store)) {
    if (p->name.find("k_proj") != std::string::npos) continue;
    INFO(p->name);
    fill_random(p->value, p->name, 0.3);
    CHECK_FALSE(same(logits_of(plain).view(), logits_of(tiny).view()));
    std::ranges::fill(p->value.as<float>(), 0.0f);
  }
}

TEST_CASE("adapters leave biases frozen, in the working type, and out of what is merged") {
  const TinyLlama tiny(adapter_kind("mora", "rotation").config,
                       {.biases = true, .frozen_matrices = DType::bf16});
  CHECK(biases_of(tiny.store).size() == 14);
  for (const Parameter* p : biases_of(tiny.store)) {
    CHECK(p->training == Training::frozen);
    CHECK(p->value.dtype() == DType::f32);
  }
  TinyLlama plain(adapter_kind("lora").config), other = biased("lora");
  fill_biases(other);
  const auto a = plain.model.linears(), b = other.model.linears();
  for (size_t i = 0; i < a.size(); ++i) {
    CHECK(a[i]->bias() == nullptr);
    REQUIRE(b[i]->bias() != nullptr);
    const OwnedTensor without({DType::f32, a[i]->weight().shape}),
        with({DType::f32, b[i]->weight().shape});
    delta_weight(*a[i], without.view());
    delta_weight(*b[i], with.view());
    CHECK(same(without.view(), with.view()));
  }
}

TEST_CASE("a model with biases is saved and loaded as it was") {
  const TemporaryFolder folder;
  const TinyLlama tiny = biased("full");
  fill_biases(tiny);
  save_model(folder.path(), tiny.config, tiny.store, DType::f32);
  const LlamaConfig config = read_llama_config(folder / "config.json");
  CHECK(config == tiny.config);
  const TinyLlama again = biased("full");
  CHECK_FALSE(same(logits_of(tiny).view(), logits_of(again).view()));
  ParameterStore store;
  const Llama model(config, store, Training::frozen);
  store.allocate();
  load_weights(store, config, folder.path());
  const std::vector<int32_t> ids = {3, 14, 15, 9, 26, 5};
  const OwnedTensor logits = sequence_logits(model, store, ids, *make_cpu_backend());
  CHECK(same(logits_of(tiny).view(), logits.view()));
}

TEST_CASE("biases that the configuration and the weights disagree about are listed") {
  const std::string bias = "model.layers.1.mlp.down_proj.bias";
  for (const bool stored : {false, true}) {
    const TemporaryFolder folder;
    const TinyLlama tiny(adapter_kind("full").config, {.biases = stored});
    save_model(folder.path(), tiny.config, tiny.store, DType::f32);
    LlamaConfig config = tiny.config;
    config.attention_bias = config.mlp_bias = !stored;
    ParameterStore store;
    const Llama model(config, store, Training::frozen);
    store.allocate();
    const std::string message =
        message_of(ErrorKind::data, [&] { load_weights(store, config, folder.path()); });
    CHECK_MESSAGE(
        message.find(str(stored ? "unexpected: " : "missing: ", bias)) != std::string::npos,
        message);
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
