// RoPE's frequencies and table against transformers' numbers (tests/golden/make_rope_goldens.py),
// and what the choice of the longest sequence does.
#include "models/rope_table.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "golden.hpp"
#include "io/json.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

TEST_SUITE_BEGIN("rope table");

namespace mora::testing {
namespace {

LlamaConfig config_of(const std::string& text) {
  const TemporaryFolder folder;
  return read_llama_config(folder.file("config.json", text));
}

TEST_CASE("frequencies of real models' sizes equal transformers' to the rounding of a float") {
  const SafetensorsFile golden(golden_folder() / "rope_frequencies.safetensors");
  int compared = 0;
  for (const auto& entry : golden.tensors()) {
    const std::string& name = entry.first;
    INFO(name);
    const auto dot = name.find('.');
    const LlamaConfig config = config_of(golden.metadata().at(name.substr(0, dot)));
    const auto got = rope_frequencies(config, std::stoll(name.substr(dot + 1)));
    const auto expected = read_doubles(golden, name);
    REQUIRE(got.size() == expected.size());
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK(std::fabs(static_cast<double>(got[i]) - expected[i]) <= 4e-7 * expected[i]);
    }
    ++compared;
  }
  CHECK(compared == 9);
}

TEST_CASE("a row holds the cosines and sines of its position's angles") {
  LlamaConfig config = tiny_config({});
  config.rope_scaling = {RopeType::linear, 2.5};
  const auto frequencies = rope_frequencies(config, 1);
  for (const DType dtype : {DType::f32, DType::f64}) {
    const OwnedTensor table = make_rope_table(config, 700, dtype);
    OwnedTensor wide({DType::f64, {700, config.head_dim}});
    convert(table.view(), wide.view());
    const auto half = frequencies.size();
    for (size_t p = 0; p < 700; ++p) {
      for (size_t i = 0; i < half; ++i) {
        const double angle = static_cast<double>(static_cast<float>(p) * frequencies[i]);
        CHECK(std::fabs(wide.as<double>()[p * 2 * half + i] - std::cos(angle)) < 1e-7);
        CHECK(std::fabs(wide.as<double>()[p * 2 * half + half + i] - std::sin(angle)) < 1e-7);
      }
    }
  }
}

TEST_CASE("dynamic RoPE is plain up to max_position_embeddings, and only it looks at the length") {
  LlamaConfig config = tiny_config({});
  const auto plain = rope_frequencies(config, 1);
  config.rope_scaling = {RopeType::dynamic, 2};
  const int64_t most = config.max_position_embeddings;
  CHECK(rope_frequencies(config, 1) == plain);
  CHECK(rope_frequencies(config, most) == plain);
  const auto one_more = rope_frequencies(config, most + 1),
             twice = rope_frequencies(config, 2 * most);
  CHECK(one_more[0] == 1.0f);
  for (size_t i = 1; i < plain.size(); ++i) {
    CHECK(one_more[i] < plain[i]);
    CHECK(twice[i] < one_more[i]);
  }
  for (const RopeType type : {RopeType::standard, RopeType::linear, RopeType::llama3}) {
    config.rope_scaling = {type, 2};
    CHECK(rope_frequencies(config, 1) == rope_frequencies(config, 100 * most));
  }
}

TEST_CASE("a model's table covers the longest sequence it is made for") {
  LlamaConfig config = tiny_config({});
  config.rope_scaling = {RopeType::dynamic, 2};
  ParameterStore first, second;
  CHECK(Llama(config, first, Training::frozen).longest() == config.max_position_embeddings);
  CHECK(Llama(config, second, Training::frozen, 500).longest() == 500);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
