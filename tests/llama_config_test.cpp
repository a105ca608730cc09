// config.json: what transformers 4 and 5 write is read and written back unchanged; what is broken,
// or would be another model, is refused with one line that names file and key.
#include <doctest/doctest.h>

#include <string>

#include "io/json.hpp"
#include "mora/models/llama.hpp"
#include "temporary_folder.hpp"

TEST_SUITE_BEGIN("llama config");

namespace mora {
namespace {

LlamaConfig read(const std::string& text) {
  const TemporaryFolder folder;
  return read_llama_config(folder.file("config.json", text));
}

struct Bad {
  std::string text;
  std::string part;  // of the message
};

void check_refused(const Bad& bad) {
  const TemporaryFolder folder;
  const auto path = folder.file("config.json", bad.text);
  INFO(bad.text.substr(0, 200));
  const std::string message = message_of(ErrorKind::data, [&] { read_llama_config(path); });
  CHECK_MESSAGE(message.find(path.string()) == 0, message);
  CHECK_MESSAGE(message.find(bad.part) != std::string::npos, message);
  CHECK(message.find('\n') == std::string::npos);
  CHECK(message.size() < 400);
}

// A config.json with a RoPE of these keys, in the form of transformers 4 and in that of 5.
void check_rope_refused(const std::string& keys, const std::string& part) {
  for (const char* form : {"rope_scaling", "rope_parameters"}) {
    check_refused({str(R"({")", form, R"(": {)", keys, "}}"), part});
  }
}

std::string llama3(const std::string& changed) {
  return R"("rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192)" +
         changed;
}

LlamaConfig llama3_config() {
  LlamaConfig c;
  c.rope_theta = 500000;
  c.rope_scaling = {RopeType::llama3, 8, 1, 4, 8192};
  return c;
}

TEST_CASE("an empty object is transformers' default") {
  const LlamaConfig c = read("{}");
  CHECK(c == LlamaConfig{});
  CHECK(c.head_dim == 128);
  CHECK(c.num_key_value_heads == 32);
  CHECK(c.rms_norm_eps == 1e-6);
  CHECK(c.rope_theta == 10000);
  CHECK(c.rope_scaling.type == RopeType::standard);
  CHECK(c.bos_token_id == 1);
  CHECK(c.eos_token_ids == std::vector<int64_t>{2});
  CHECK(!c.pad_token_id);
}

TEST_CASE("null is as absent, but for token ids, where it means none") {
  const LlamaConfig c = read(R"({"vocab_size": null, "num_key_value_heads": null, "head_dim": null,
      "num_attention_heads": 16, "rope_theta": null, "rope_scaling": null, "rope_parameters": null,
      "sliding_window": null, "quantization_config": null, "attention_bias": null,
      "tie_word_embeddings": null, "torch_dtype": null, "dtype": null, "model_type": null,
      "hidden_act": null, "architectures": null, "attention_dropout": null,
      "bos_token_id": null, "eos_token_id": null, "pad_token_id": null})");
  LlamaConfig expected;
  expected.num_attention_heads = expected.num_key_value_heads = 16;
  expected.head_dim = 256;
  expected.bos_token_id.reset();
  expected.eos_token_ids.clear();
  CHECK(c == expected);
}

TEST_CASE("keys that change nothing are ignored") {
  const LlamaConfig c = read(R"({"_name_or_path": "x", "transformers_version": "4.31.0.dev0",
      "use_cache": false, "pretraining_tp": 4, "rope_interleaved": false, "auto_map": {"a": "b"},
      "torch_dtype": "bfloat16", "dtype": "float16", "unknown": [[[{}]]],
      "architectures": ["LLaMAForCausalLM"], "pad_token_id": -1})");
  CHECK(c == LlamaConfig{});
}

TEST_CASE("every key is read") {
  const LlamaConfig c = read(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
      "vocab_size": 100, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
      "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "hidden_act": "silu",
      "max_position_embeddings": 77, "initializer_range": 0, "rms_norm_eps": 1e-5,
      "rope_theta": 5e5, "tie_word_embeddings": true, "attention_bias": true, "mlp_bias": true,
      "bos_token_id": 0, "eos_token_id": [7, 99], "pad_token_id": 5, "attention_dropout": 0.0})");
  LlamaConfig e;
  e.vocab_size = 100;
  e.hidden_size = 24;
  e.intermediate_size = 40;
  e.num_hidden_layers = 3;
  e.num_attention_heads = 4;
  e.num_key_value_heads = 2;
  e.head_dim = 10;
  e.max_position_embeddings = 77;
  e.initializer_range = 0;
  e.rms_norm_eps = 1e-5;
  e.rope_theta = 500000;
  e.tie_word_embeddings = e.attention_bias = e.mlp_bias = true;
  e.bos_token_id = 0;
  e.eos_token_ids = {7, 99};
  e.pad_token_id = 5;
  CHECK(c == e);
}

TEST_CASE("RoPE is read in the forms of transformers 4 and 5, and in both at once") {
  const std::string keys = llama3("");
  for (const std::string& text : std::vector<std::string>{
           R"({"rope_theta": 5e5, "rope_scaling": {)" + keys + "}}",
           R"({"rope_parameters": {"rope_theta": 500000.0, )" + keys + "}}",
           R"({"rope_theta": 5e5, "rope_parameters": {)" + keys + "}}",
           R"({"rope_theta": 5e5, "rope_scaling": null, "rope_parameters": {)" + keys + "}}",
           R"({"rope_theta": 5e5, "rope_scaling": {}, "rope_parameters": {)" + keys + "}}",
           R"({"rope_theta": 5e5, "rope_scaling": {)" + keys +
               R"(}, "rope_parameters": {"rope_theta": 500000.0, )" + keys + "}}",
           R"({"rope_theta": 5e5, "original_max_position_embeddings": 8192, "rope_scaling":
            {"type": "llama3", "rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
             "high_freq_factor": 4, "partial_rotary_factor": 1.0}})"}) {
    INFO(text);
    CHECK(read(text) == llama3_config());
  }
  const auto rope = [](const std::string& text) { return read(text).rope_scaling; };
  CHECK(rope(R"({"rope_scaling": {"type": "linear", "factor": 2}})") ==
        RopeScaling{RopeType::linear, 2});
  CHECK(
      rope(R"({"rope_parameters": {"rope_type": "dynamic", "factor": 1.5, "rope_theta": 3e3}})") ==
      RopeScaling{RopeType::dynamic, 1.5});
  CHECK(read(R"({"rope_parameters": {"rope_theta": 3e3}})").rope_theta == 3000);
  CHECK(rope(R"({"rope_parameters": {"rope_theta": 3e3, "rope_type": "default"}})") ==
        RopeScaling{});
  CHECK(rope(R"({"rope_scaling": {"type": "default", "factor": 1.0}})") == RopeScaling{});
}

TEST_CASE("what is written is read again as it was, and is what both versions look for") {
  LlamaConfig scaled = llama3_config();
  scaled.attention_bias = scaled.mlp_bias = true;
  scaled.eos_token_ids = {5, 6, 7};
  LlamaConfig linear, dynamic, bare;
  linear.rope_scaling = {RopeType::linear, 2.5};
  linear.rope_theta = 12345.678;
  dynamic.rope_scaling = {RopeType::dynamic, 4};
  dynamic.pad_token_id = 0;
  bare.bos_token_id.reset();
  bare.eos_token_ids.clear();
  for (const LlamaConfig& c : {LlamaConfig{}, scaled, linear, dynamic, bare}) {
    const std::string text = to_json_text(c, DType::bf16);
    INFO(text);
    CHECK(read(text) == c);
    const Json json = parse_json(text, "config.json");
    CHECK(json["torch_dtype"] == "bfloat16");
    CHECK(json["rope_theta"] == c.rope_theta);
    CHECK(json["rope_parameters"]["rope_theta"] == c.rope_theta);
    Json parameters = json["rope_parameters"];
    parameters.erase("rope_theta");
    if (c.rope_scaling.type == RopeType::standard) {
      CHECK(json["rope_scaling"].is_null());
      CHECK(parameters == Json{{"rope_type", "default"}});
    } else {
      CHECK(json["rope_scaling"] == parameters);
    }
  }
  CHECK(parse_json(to_json_text(LlamaConfig{}, DType::f32), "c")["eos_token_id"] == 2);
}

TEST_CASE("what is not JSON is refused at its place") {
  std::string deep = R"({"x": )";
  for (int i = 0; i < 100000; ++i) deep += '[';
  for (const Bad& bad : std::vector<Bad>{
           {"", ":1:"},
           {"{", ":1:"},
           {"[]", "expected an object"},
           {"null", "expected an object"},
           {"\"llama\"", "expected an object"},
           {R"({"vocab_size": NaN})", ":1:"},
           {R"({"rms_norm_eps": Infinity})", ":1:"},
           {R"({"rope_theta": 1e999})", ":1:"},
           {R"({"vocab_size": 010})", ":1:"},
           {R"({"vocab_size": 100,})", ":1:"},
           {R"({"vocab_size": 100} {"vocab_size": 100})", ":1:"},
           {R"({"vocab_size": 100, "vocab_size": 200})", "vocab_size"},
           {R"({"rope_scaling": {"factor": 2, "factor": 4}})", "factor"},
           {"{\n\"a\": 1 // two\n}", ":2:"},
           {"{\"model_type\": \"\xff\"}", ":1:"},
           {std::string("{\0}", 3), "NUL"},
           {deep, "deeper than 64"},
           {R"({"a": ")" + std::string(17 << 20, 'x') + R"("})", ""},
       }) {
    check_refused(bad);
  }
}

TEST_CASE("wrong types are refused by key") {
  for (const Bad& bad : std::vector<Bad>{
           {R"({"vocab_size": "32000"})", "/vocab_size: expected an integer"},
           {R"({"vocab_size": true})", "/vocab_size: expected an integer"},
           {R"({"hidden_size": 24.5})", "/hidden_size: expected an integer"},
           {R"({"num_hidden_layers": [2]})", "/num_hidden_layers: expected an integer"},
           {R"({"head_dim": {}})", "/head_dim: expected an integer"},
           {R"({"rms_norm_eps": "1e-5"})", "/rms_norm_eps: expected a number"},
           {R"({"rope_theta": [10000]})", "/rope_theta: expected a number"},
           {R"({"rope_scaling": "linear"})", "/rope_scaling: expected an object"},
           {R"({"rope_scaling": [2.0]})", "/rope_scaling: expected an object"},
           {R"({"rope_parameters": 5})", "/rope_parameters: expected an object"},
           {R"({"rope_parameters": []})", "/rope_parameters: expected an object"},
           {R"({"tie_word_embeddings": 1})", "/tie_word_embeddings: expected true or false"},
           {R"({"attention_bias": "no"})", "/attention_bias: expected true or false"},
           {R"({"mlp_bias": 0})", "/mlp_bias: expected true or false"},
           {R"({"model_type": 3})", "/model_type: expected a string"},
           {R"({"architectures": "LlamaForCausalLM"})", "/architectures: expected an array"},
           {R"({"architectures": [1]})", "/architectures/0: expected a string"},
           {R"({"attention_dropout": "0"})", "/attention_dropout: expected a number"},
           {R"({"torch_dtype": 32})", "/torch_dtype: expected a string"},
           {R"({"bos_token_id": "1"})", "/bos_token_id: expected an integer"},
           {R"({"eos_token_id": [2, null]})", "/eos_token_id/1: expected an integer"},
           {R"({"eos_token_id": {"id": 2}})", "/eos_token_id: expected an integer"},
           {R"({"pad_token_id": 1.5})", "/pad_token_id: expected an integer"},
       }) {
    check_refused(bad);
  }
}

TEST_CASE("sizes and ids out of range are refused by key") {
  for (const Bad& bad : std::vector<Bad>{
           {R"({"vocab_size": 0})", "/vocab_size: is 0"},
           {R"({"vocab_size": -32000})", "/vocab_size: is -32000"},
           {R"({"vocab_size": 2147483649})", "/vocab_size: is 2147483649"},
           {R"({"vocab_size": 1e300})", "/vocab_size"},
           {R"({"hidden_size": 9223372036854775807})", "/hidden_size: is 9223372036854775807"},
           {R"({"hidden_size": 18446744073709551616})", "/hidden_size"},
           {R"({"intermediate_size": -1})", "/intermediate_size: is -1"},
           {R"({"num_hidden_layers": 0})", "/num_hidden_layers: is 0"},
           {R"({"num_hidden_layers": 65537})", "/num_hidden_layers: is 65537"},
           {R"({"num_attention_heads": 0})", "/num_attention_heads: is 0"},
           {R"({"num_key_value_heads": 0})", "/num_key_value_heads: is 0"},
           {R"({"num_attention_heads": 8, "num_key_value_heads": 3})", "num_key_value_heads, 3"},
           {R"({"num_attention_heads": 8, "num_key_value_heads": 16})", "num_key_value_heads, 16"},
           {R"({"num_attention_heads": 7})", "no multiple of num_attention_heads, 7"},
           {R"({"num_attention_heads": 8192})", "num_attention_heads, 8192"},
           {R"({"hidden_size": 3, "num_attention_heads": 1})", "head_dim is 3"},
           {R"({"head_dim": 65})", "head_dim is 65"},
           {R"({"head_dim": 0})", "/head_dim: is 0"},
           {R"({"head_dim": 65538})", "/head_dim: is 65538"},
           {R"({"hidden_size": 1048576, "num_attention_heads": 1})", "head_dim is 1048576"},
           {R"({"max_position_embeddings": 0})", "/max_position_embeddings: is 0"},
           {R"({"rms_norm_eps": 0})", "/rms_norm_eps: is 0"},
           {R"({"rms_norm_eps": -1e-6})", "/rms_norm_eps: is -1e-06"},
           {R"({"rms_norm_eps": 1e300})", "/rms_norm_eps: is 1e+300"},
           {R"({"initializer_range": -0.02})", "/initializer_range: is -0.02"},
           {R"({"initializer_range": 2})", "/initializer_range: is 2"},
           {R"({"rope_theta": 0})", "/rope_theta: is 0"},
           {R"({"rope_theta": -10000})", "/rope_theta: is -10000"},
           {R"({"rope_theta": 1e40})", "/rope_theta: is 1e+40"},
           {R"({"rope_parameters": {"rope_theta": 0}})", "/rope_parameters/rope_theta: is 0"},
           {R"({"bos_token_id": 32000})", "/bos_token_id: is 32000"},
           {R"({"bos_token_id": [1, 2]})", "/bos_token_id: is a list"},
           {R"({"eos_token_id": []})", "/eos_token_id: is an empty list"},
           {R"({"eos_token_id": [2, -1]})", "/eos_token_id/1: is -1"},
           {R"({"eos_token_id": 128009})", "/eos_token_id: is 128009"},
           {R"({"pad_token_id": -2})", "/pad_token_id: is -2"},
           {R"({"vocab_size": 100, "pad_token_id": 100})", "/pad_token_id: is 100"},
       }) {
    check_refused(bad);
  }
}

TEST_CASE("ids that the vocabulary lacks are not made up") {
  const LlamaConfig c = read(R"({"vocab_size": 2})");
  CHECK(c.bos_token_id == 1);
  CHECK(c.eos_token_ids.empty());
}

TEST_CASE("other models are refused by key") {
  for (const Bad& bad : std::vector<Bad>{
           {R"({"model_type": "mistral"})", R"(/model_type: is "mistral")"},
           {R"({"model_type": "qwen2"})", R"(/model_type: is "qwen2")"},
           {R"({"model_type": ""})", "/model_type"},
           {"{\"model_type\": \"a\\nb\\u001b[31m\"}", "/model_type"},
           {R"({"architectures": ["MistralForCausalLM"]})", "/architectures/0"},
           {R"({"architectures": ["LlamaForSequenceClassification"]})", "/architectures/0"},
           {R"({"hidden_act": "gelu"})", R"(/hidden_act: is "gelu")"},
           {R"({"quantization_config": {"quant_method": "gptq", "bits": 4}})",
            "/quantization_config: quantized"},
           {R"({"quantization_config": {}})", "/quantization_config: quantized"},
           {R"({"compression_config": {"format": "x"}})", "/compression_config: quantized"},
           {R"({"sliding_window": 4096})", "/sliding_window: "},
           {R"({"attention_dropout": 0.1})", "/attention_dropout: only 0"},
           {R"({"torch_dtype": "float64"})", R"(/torch_dtype: is "float64")"},
           {R"({"dtype": "int8"})", R"(/dtype: is "int8")"},
           {R"({"partial_rotary_factor": 0.5})", "/partial_rotary_factor: only 1"},
       }) {
    check_refused(bad);
  }
}

TEST_CASE("RoPE that we do not compute, or that is told badly, is refused by key") {
  check_rope_refused(R"("rope_type": "yarn", "factor": 4.0)", R"(/rope_type: RoPE of type "yarn")");
  check_rope_refused(R"("type": "yarn", "factor": 4.0)", R"(/type: RoPE of type "yarn")");
  check_rope_refused(R"("rope_type": "longrope", "short_factor": [1.0])", R"("longrope")");
  check_rope_refused(R"("type": "su", "factor": 4.0)", R"("su")");
  check_rope_refused(R"("rope_type": "Linear", "factor": 4.0)", R"("Linear")");
  check_rope_refused(R"("rope_type": 7)", "/rope_type: expected a string");
  check_rope_refused(R"("rope_type": "linear", "type": "dynamic", "factor": 2)", "/type: contra");
  check_rope_refused(R"("factor": 2)", "/factor: means nothing");
  check_rope_refused(R"("rope_type": "default", "factor": 2)", "/factor: means nothing");
  check_rope_refused(R"("rope_type": "linear")", R"("factor" is missing)");
  check_rope_refused(R"("rope_type": "dynamic")", R"("factor" is missing)");
  check_rope_refused(R"("rope_type": "linear", "factor": null)", "/factor: expected a number");
  check_rope_refused(R"("rope_type": "linear", "factor": "2")", "/factor: expected a number");
  check_rope_refused(R"("rope_type": "linear", "factor": 0)", "/factor: is 0");
  check_rope_refused(R"("rope_type": "linear", "factor": -2)", "/factor: is -2");
  check_rope_refused(R"("rope_type": "linear", "factor": 0.5)", "/factor: is 0.5");
  check_rope_refused(R"("rope_type": "dynamic", "factor": 1e300)", "/factor: is 1e+300");
  check_rope_refused(R"("rope_type": "llama3")", R"("factor" is missing)");
  check_rope_refused(R"("rope_type": "llama3", "factor": 8)", R"("low_freq_factor" is missing)");
  check_rope_refused(R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 1)",
                     R"("high_freq_factor" is missing)");
  const std::string factors = R"("rope_type": "llama3", "factor": 8, "low_freq_factor": 4,)";
  check_rope_refused(factors + R"("high_freq_factor": 8)",
                     R"("original_max_position_embeddings" is missing)");
  check_rope_refused(factors + R"("high_freq_factor": 4)", "/high_freq_factor: is 4");
  check_rope_refused(factors + R"("high_freq_factor": 1)", "more than low_freq_factor, 4");
  check_rope_refused(factors + R"("high_freq_factor": -1)", "/high_freq_factor: is -1");
  check_rope_refused(factors + R"("high_freq_factor": 8, "original_max_position_embeddings": 0)",
                     "is 0");
  check_rope_refused(factors + R"("high_freq_factor": 8, "original_max_position_embeddings": 81.5)",
                     "integer");
  check_rope_refused(llama3(R"(, "partial_rotary_factor": 0.25)"), "/partial_rotary_factor");
  check_rope_refused(R"("full_attention": {"rope_type": "default"})", "/full_attention: a RoPE");
  check_rope_refused(R"("rope_theta": 5, "rope_type": "dynamic", "factor": 2}, "head_dim": 2,
                        "x": {)",
                     "head_dim is 2");
}

TEST_CASE("files that say two things about RoPE are refused") {
  for (const Bad& bad : std::vector<Bad>{
           {R"({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}})",
            "/rope_parameters/rope_theta: contradicts"},
           {R"({"rope_scaling": {"type": "linear", "factor": 2},
                "rope_parameters": {"rope_type": "linear", "factor": 4}})",
            "/rope_scaling: contradicts"},
           {R"({"rope_scaling": {"type": "linear", "factor": 2},
                "rope_parameters": {"rope_type": "default"}})",
            "/rope_scaling: contradicts"},
           {R"({"rope_scaling": {"type": "linear", "factor": 2},
                "rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5e5}})",
            "/rope_scaling: contradicts"},
           {R"({"original_max_position_embeddings": 4096, "rope_scaling": {)" + llama3("}}"),
            "/original_max_position_embeddings: contradicts"},
       }) {
    check_refused(bad);
  }
}

TEST_CASE("a missing file is named") {
  const TemporaryFolder folder;
  const std::string message =
      message_of(ErrorKind::data, [&] { read_llama_config(folder / "config.json"); });
  CHECK(message.find("config.json") != std::string::npos);
}

}  // namespace
}  // namespace mora

TEST_SUITE_END();
