// mora-convert between GGUF and Hugging Face folders, as a user runs it: what goes out comes back,
// and what cannot be converted is refused by name with nothing left behind.
#include <algorithm>
#include <cmath>
#include <random>

#include "command.hpp"
#include "gguf_model.hpp"
#include "io/json.hpp"
#include "mora/text/tokenizer.hpp"
#include "worse.hpp"

TEST_SUITE_BEGIN("gguf conversion");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;

Finished convert_with(const fs::path& folder, const std::vector<std::string>& options) {
  return run(folder, joined({MORA_BINARY_DIR "/mora-convert"}, options));
}

void check_converted(const Finished& finished) {
  CHECK_MESSAGE(finished.code == 0, finished.err);
  CHECK(finished.err.empty());
}

std::vector<float> values_of(const SafetensorsFile& file, const std::string& name) {
  const TensorInfo& info = file.info(name);
  const OwnedTensor tensor({DType::f32, Shape(std::span<const int64_t>(info.shape))});
  file.read(name, tensor.view());
  return {tensor.as<float>().begin(), tensor.as<float>().end()};
}

// The largest difference, relative to the tensor's largest value, over all tensors.
double largest_difference(const fs::path& a, const fs::path& b) {
  const SafetensorsFile left(a / "model.safetensors"), right(b / "model.safetensors");
  CHECK(left.tensors().size() == right.tensors().size());
  double worst = 0;
  for (const auto& [name, info] : left.tensors()) {
    const std::vector<float> x = values_of(left, name), y = values_of(right, name);
    REQUIRE(x.size() == y.size());
    float largest = 0;
    double difference = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      largest = std::max(largest, std::fabs(x[i]));
      difference = worse(difference, std::fabs(x[i] - y[i]));
    }
    worst = worse(worst, difference / static_cast<double>(largest));
  }
  return worst;
}

std::string varied_text(std::mt19937& random) {
  static const char* const kParts[] = {
      "the ", "river", "  ",  "\n",   "a1b2-",       "\xC3\xA9", "\xE4\xBD\xA0", "\xF0\x9F\x98\x80",
      "\t",   "Zx",    "<s>", "0xFF", "\xE2\x96\x81"};
  std::string text;
  for (uint64_t n = random() % 12; n > 0; --n) text += kParts[random() % std::size(kParts)];
  return text;
}

Json json_of(const fs::path& path) {
  return parse_json(bytes_of(path), path.string());
}

// Converts the tiny model with this conversion's command; the folder is `out`.
Finished to_hf(const TemporaryFolder& folder, const TinyGguf& model,
               const std::string& dtype = "float32") {
  folder.file("m.gguf", model.bytes());
  return convert_with(folder.path(),
                      {"gguf-to-hf", "--model", "m.gguf", "--out", "out", "--dtype", dtype});
}

// The conversion must fail with one line that holds `part`, exit code 3, and nothing left behind.
void check_refused(const TinyGguf& model, const std::string& part) {
  const TemporaryFolder folder;
  const Finished finished = to_hf(folder, model);
  CHECK_MESSAGE(finished.code == 3, finished.err);
  CHECK_MESSAGE(finished.err.find(part) != std::string::npos, finished.err);
  CHECK_MESSAGE(finished.err.find("m.gguf") != std::string::npos, finished.err);
  CHECK(std::ranges::count(finished.err, '\n') == 1);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
}

}  // namespace

TEST_CASE("the embedded model goes to GGUF and back bit for bit") {
  const TemporaryFolder folder;
  for (const char* type : {"f32", "bf16"}) {  // it is stored in bf16, so both keep every value
    INFO(type);
    const std::string gguf = str(type, ".gguf"), out = str("out-", type);
    check_converted(convert_with(folder.path(),
                                 {"hf-to-gguf", "--model", kBase, "--out", gguf, "--type", type}));
    check_converted(convert_with(folder.path(), {"gguf-to-hf", "--model", gguf, "--out", out}));
    CHECK(largest_difference(kBase, folder / out) == 0);
    const LlamaConfig before = read_llama_config(fs::path(kBase) / "config.json");
    const LlamaConfig after = read_llama_config(folder / out / "config.json");
    CHECK(to_json_text(before, DType::f32) == to_json_text(after, DType::f32));
  }
  CHECK(bytes_of(folder / "out-f32" / "tokenizer.model") ==
        bytes_of(folder / "out-bf16" / "tokenizer.model"));
  check_converted(convert_with(
      folder.path(), {"hf-to-gguf", "--model", "out-f32", "--out", "again.gguf", "--type", "f32"}));
  check_converted(
      convert_with(folder.path(), {"gguf-to-hf", "--model", "again.gguf", "--out", "again"}));
  for (const auto& entry : fs::directory_iterator(folder / "again")) {
    CHECK(bytes_of(entry.path()) ==
          bytes_of(folder / "out-f32" / entry.path().filename().string()));
  }
}

TEST_CASE("the embedded tokenizer goes to GGUF and back with the same ids") {
  const TemporaryFolder folder;
  check_converted(convert_with(folder.path(), {"hf-to-gguf", "--model", kBase, "--out", "b.gguf"}));
  check_converted(convert_with(folder.path(), {"gguf-to-hf", "--model", "b.gguf", "--out", "out"}));
  const auto before = load_tokenizer(kBase), after = load_tokenizer(folder / "out");
  CHECK(before->vocab_size() == after->vocab_size());
  CHECK(before->bos() == after->bos());
  CHECK(before->eos() == after->eos());
  std::mt19937 random(3);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = varied_text(random);
    const auto ids = before->encode_formatted(text);
    REQUIRE_MESSAGE(ids == after->encode_formatted(text), text);
    REQUIRE_MESSAGE(ids == after->encode(text), text);  // its files name the control pieces
    REQUIRE(before->decode(ids) == after->decode(ids));
  }
}

TEST_CASE("narrow types round, norms stay f32, and q and k are in GGUF's order") {
  const TemporaryFolder folder;
  const std::map<std::string, double> tolerance = {{"f16", 1e-3}, {"q8_0", 5e-3}};
  for (const auto& entry : tolerance) {
    const std::string& type = entry.first;
    INFO(type);
    const std::string gguf = type + ".gguf";
    check_converted(convert_with(folder.path(),
                                 {"hf-to-gguf", "--model", kBase, "--out", gguf, "--type", type}));
    check_converted(convert_with(folder.path(), {"gguf-to-hf", "--model", gguf, "--out", type}));
    CHECK(largest_difference(kBase, folder / type) < entry.second);
    CHECK(str(GgufFile(folder / gguf).tensor("blk.3.attn_norm.weight")) == "F32[128]");
  }
  check_converted(convert_with(
      folder.path(), {"hf-to-gguf", "--model", kBase, "--out", "x.gguf", "--type", "f32"}));
  const GgufFile gguf(folder / "x.gguf");
  const SafetensorsFile base(fs::path(kBase) / "model.safetensors");
  const std::vector<float> q = values_of(base, "model.layers.2.self_attn.q_proj.weight");
  std::vector<float> row(128);
  for (int64_t head = 0; head < 4; ++head) {
    for (int64_t i = 0; i < 16; ++i) {
      for (int64_t half = 0; half < 2; ++half) {  // neighbours there, 16 rows apart here
        gguf.read_row(gguf.tensor("blk.2.attn_q.weight"), head * 32 + 2 * i + half, row);
        CHECK(std::equal(row.begin(), row.end(), q.begin() + (head * 32 + half * 16 + i) * 128));
      }
    }
  }
}

TEST_CASE("a model in other types than float32") {
  const TemporaryFolder folder;
  check_converted(to_hf(folder, TinyGguf(), "bfloat16"));
  CHECK(json_of(folder / "out" / "config.json")["torch_dtype"] == "bfloat16");
  const SafetensorsFile file(folder / "out" / "model.safetensors");
  CHECK(file.info("model.embed_tokens.weight").dtype == "BF16");
  const std::vector<float> values = values_of(file, "model.embed_tokens.weight");
  for (size_t i = 0; i < values.size(); ++i) {
    CHECK(values[i] == static_cast<float>(bf16(0.25f * static_cast<float>(i + 1))));
  }
}

TEST_CASE("an untied output, and one that is tied") {
  const TemporaryFolder folder;
  TinyGguf model;
  check_converted(to_hf(folder, model));
  CHECK_FALSE(read_llama_config(folder / "out" / "config.json").tie_word_embeddings);
  fs::remove_all(folder / "out");
  model.tensors.erase("output.weight");
  check_converted(to_hf(folder, model));
  CHECK(read_llama_config(folder / "out" / "config.json").tie_word_embeddings);
  CHECK_FALSE(SafetensorsFile(folder / "out" / "model.safetensors").contains("lm_head.weight"));
}

TEST_CASE("byte-level BPE becomes tokenizer.json, and comes back") {
  const TemporaryFolder folder;
  TinyGguf model;
  model.set(text_value("tokenizer.chat_template", "{{ 'a\"b' }}\n"));
  model.set(bool_value("tokenizer.ggml.add_bos_token", true));
  model.set(u32_value("tokenizer.ggml.eot_token_id", 6));
  check_converted(to_hf(folder, model));
  const Json json = json_of(folder / "out" / "tokenizer.json");
  CHECK(json["model"]["vocab"].size() == 7);  // without [PAD7]
  CHECK(json["model"]["vocab"]["abc"] == 5);
  CHECK(json["model"]["merges"] == Json({"a b", "ab c"}));
  CHECK(json["added_tokens"].size() == 2);
  CHECK(json["added_tokens"][0]["special"] == true);
  CHECK(json["added_tokens"][1]["content"] == "<tool>");
  CHECK(json["added_tokens"][1]["special"] == false);
  CHECK(json["normalizer"].is_null());
  CHECK(json["pre_tokenizer"]["pretokenizers"][0]["type"] == "Digits");
  CHECK(json["pre_tokenizer"]["pretokenizers"][1]["use_regex"] == true);
  CHECK(json["post_processor"]["single"][0]["SpecialToken"]["id"] == "<|end|>");
  CHECK(json_of(folder / "out" / "generation_config.json")["eos_token_id"] == Json({0, 6}));
  const Json config = json_of(folder / "out" / "tokenizer_config.json");
  CHECK(config["chat_template"] == "{{ 'a\"b' }}\n");
  CHECK(config["bos_token"] == "<|end|>");
  check_converted(convert_with(
      folder.path(), {"hf-to-gguf", "--model", "out", "--out", "back.gguf", "--type", "f32"}));
  const GgufFile before(folder / "m.gguf"), after(folder / "back.gguf");
  for (const char* key : {"tokens", "merges"}) {
    CHECK(before.texts(str("tokenizer.ggml.", key)) == after.texts(str("tokenizer.ggml.", key)));
  }
  CHECK(before.integers("tokenizer.ggml.token_type") ==
        after.integers("tokenizer.ggml.token_type"));
  CHECK(after.text("tokenizer.ggml.pre") == "smollm");
  CHECK(after.text("tokenizer.chat_template") == "{{ 'a\"b' }}\n");
  CHECK(after.boolean("tokenizer.ggml.add_bos_token"));
}

TEST_CASE("every pre-tokenizer's name survives the way to tokenizer.json and back") {
  const TemporaryFolder folder;
  for (const char* name : {"gpt-2", "olmo", "smollm", "llama-bpe", "dbrx", "qwen2", "stablelm2",
                           "tekken", "default"}) {
    INFO(name);
    fs::remove_all(folder / "out");
    check_converted(to_hf(folder, TinyGguf().set(text_value("tokenizer.ggml.pre", name))));
    check_converted(
        convert_with(folder.path(), {"hf-to-gguf", "--model", "out", "--out", "b.gguf"}));
    CHECK(GgufFile(folder / "b.gguf").text("tokenizer.ggml.pre") == name);
  }
}

TEST_CASE("llama3 RoPE is recovered from its factors") {
  const TemporaryFolder folder;
  TinyGguf model;  // frequencies 1 and 0.01: wavelengths of 6 and 628 positions
  model.tensors["rope_freqs.weight"] = {{2}, 0, {1, 8}};
  model.set(u32_value("llama.rope.scaling.original_context_length", 64));
  check_converted(to_hf(folder, model));
  const Json expected = {{"rope_type", "llama3"},
                         {"factor", 8.0},
                         {"low_freq_factor", 1.0},
                         {"high_freq_factor", 4.0},
                         {"original_max_position_embeddings", 64}};
  CHECK(json_of(folder / "out" / "config.json")["rope_scaling"] == expected);
  // Converters compute the factors in single precision.
  for (const Llama3Rope& rope : {Llama3Rope{8, 1, 4, 8192}, Llama3Rope{32, 1, 4, 8192}}) {
    const auto f = static_cast<float>(rope.factor);
    std::vector<float> divisors;
    for (int i = 0; i < 64; ++i) {
      const float frequency = 1.0f / std::pow(500000.0f, static_cast<float>(2 * i) / 128.0f);
      const float wavelength = 6.28318530717958647692f / frequency;
      const float s = (8192.0f / wavelength - 1.0f) / 3.0f;
      divisors.push_back(s > 1 ? 1.0f : s < 0 ? f : 1.0f / ((1.0f - s) / f + s));
    }
    const auto found = find_llama3(divisors, 500000, {});
    REQUIRE(found);
    CHECK(found->factor == rope.factor);
    CHECK(found->high == 4);
    CHECK(found->original == 8192);
  }
}

TEST_CASE("RoPE scaling is read as it was written") {
  const TemporaryFolder folder;
  TinyGguf model;
  model.set(text_value("llama.rope.scaling.type", "linear"));
  model.set(f32_value("llama.rope.scaling.factor", 4));
  model.set(f32_value("llama.rope.freq_base", 50000));
  check_converted(to_hf(folder, model));
  const Json config = json_of(folder / "out" / "config.json");
  CHECK(config["rope_theta"] == 50000);
  CHECK(config["rope_scaling"] == Json({{"rope_type", "linear"}, {"factor", 4.0}}));
  for (const double theta : {10000.0, 500000.0}) {
    for (const int64_t dim : {64, 128}) {
      for (const Llama3Rope& rope :
           {Llama3Rope{8, 1, 4, 8192}, Llama3Rope{32, 1, 4, 8192}, Llama3Rope{2, 1, 3, 1024}}) {
        const auto found = find_llama3(llama3_divisors(rope, theta, dim), theta, {});
        REQUIRE(found);
        CHECK(found->factor == rope.factor);
        CHECK(found->high == rope.high);
        CHECK(found->original == rope.original);
      }
    }
  }
  std::vector<float> divisors = llama3_divisors({}, 500000, 64);
  divisors[14] *= 1.001f;
  CHECK_FALSE(find_llama3(divisors, 500000, {}));
  CHECK_FALSE(find_llama3(std::vector<float>{1, 2, 1, 2}, 500000, {}));
  CHECK_FALSE(find_llama3(std::vector<float>{1, std::nanf("")}, 500000, {}));
  CHECK_FALSE(find_llama3(std::vector<float>{0, 8}, 500000, {}));
}

TEST_CASE("what a model's keys and tensors lack or contradict is refused by name") {
  for (const char* key :
       {"general.architecture", "llama.context_length", "llama.embedding_length",
        "llama.block_count", "llama.feed_forward_length", "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.model", "tokenizer.ggml.tokens",
        "tokenizer.ggml.token_type", "tokenizer.ggml.merges"}) {
    INFO(key);
    check_refused(TinyGguf().remove(key), key);
    check_refused(TinyGguf().set(bool_value(key, true)), key);
  }
  check_refused(TinyGguf().set(text_value("general.architecture", "mamba")), "\"mamba\"");
  for (const char* key :
       {"vocab_size", "context_length", "embedding_length", "block_count", "feed_forward_length",
        "attention.head_count", "attention.head_count_kv", "attention.key_length"}) {
    INFO(key);
    check_refused(TinyGguf().set(u32_value(str("llama.", key), 0)), key);
    check_refused(TinyGguf().set(u32_value(str("llama.", key), UINT32_MAX)), key);
    check_refused(TinyGguf().set(gguf_value(str("llama.", key), GgufType::i64, raw(int64_t{-4}))),
                  key);
    check_refused(TinyGguf().set(i32s_value(str("llama.", key), {4})), key);
  }
  check_refused(TinyGguf().set(u32_value("llama.embedding_length", 8)), "expected [8, 8]");
  check_refused(TinyGguf().set(u32_value("llama.attention.head_count_kv", 3)), "does not divide");
  check_refused(TinyGguf().set(u32_value("llama.attention.key_length", 3)), "even");
  check_refused(TinyGguf().set(u32_value("llama.attention.value_length", 8)), "value_length");
  check_refused(TinyGguf().set(u32_value("llama.rope.dimension_count", 2)), "dimension_count");
  check_refused(TinyGguf().set(f32_value("llama.rope.freq_base", -1)), "freq_base");
  check_refused(TinyGguf().set(f32_value("llama.rope.freq_base", NAN)), "freq_base");
  check_refused(TinyGguf().set(text_value("llama.rope.scaling.type", "yarn")), "\"yarn\"");
  check_refused(TinyGguf().set(f32_value("llama.rope.scaling.factor", 0.5f)), "factor");
  check_refused(TinyGguf().set(u32_value("llama.expert_count", 8)), "expert_count");
  check_refused(TinyGguf().set(u32_value("llama.attention.sliding_window", 8)), "sliding_window");
  check_refused(TinyGguf().set(bool_value("llama.attention.causal", false)), "causal");
  check_refused(TinyGguf().set(f32_value("llama.logit_scale", 2)), "llama.logit_scale");
}

TEST_CASE("an output that is there is kept, and a bad option is a usage error") {
  const TemporaryFolder folder;
  fs::create_directory(folder / "out");
  check_converted(to_hf(folder, TinyGguf()));  // an empty folder is taken
  const std::string before = bytes_of(folder / "out" / "config.json");
  const Finished again = to_hf(folder, TinyGguf().set(u32_value("llama.context_length", 65)));
  CHECK(again.code == 2);
  CHECK(again.err.find("exists and is no empty folder") != std::string::npos);
  CHECK(bytes_of(folder / "out" / "config.json") == before);
  CHECK(to_hf(folder, TinyGguf(), "int8").code == 2);
  CHECK(convert_with(folder.path(), {"gguf-to-hf", "--model", "absent", "--out", "x"}).code == 3);
  CHECK(convert_with(folder.path(), {"gguf-to-hf", "--model", "m.gguf", "--out", "no/x"}).code ==
        6);
  CHECK(convert_with(folder.path(), {"hf-to-gguf", "--model", "absent", "--out", "x"}).code == 3);
  CHECK(convert_with(folder.path(), {"hf-to-gguf", "--model", "out", "--out", "x", "--type", "q4"})
            .code == 2);
  CHECK(convert_with(folder.path(), {"hf-to-gguf", "--model", "out", "--out", "no/x"}).code == 6);
  fs::remove(folder / "out" / "tokenizer.json");
  CHECK(convert_with(folder.path(), {"hf-to-gguf", "--model", "out", "--out", "x"}).code == 3);
  CHECK_FALSE(fs::exists(folder / "x"));
}

TEST_CASE("tensors that are missing, unexpected, misshapen or not finite are refused") {
  TinyGguf model;
  model.tensors.erase("blk.0.ffn_up.weight");
  model.tensors["blk.0.attn_q.bias"] = {{8}, 0, std::vector<float>(8)};
  check_refused(model, "missing blk.0.ffn_up.weight");
  check_refused(model, "unexpected blk.0.attn_q.bias F32[8]");
  model = TinyGguf();
  model.tensors["blk.0.attn_q.weight"].shape = {4, 8};
  check_refused(model, "blk.0.attn_q.weight is F32[4, 8], expected [8, 4]");
  for (const float bad : {NAN, INFINITY}) {
    model = TinyGguf();
    model.tensors["blk.0.ffn_down.weight"].values[5] = bad;
    check_refused(model, "blk.0.ffn_down.weight\" holds a value");
  }
  model = TinyGguf();
  model.tensors["rope_freqs.weight"] = {{2}, 0, {1, 3}};
  model.tensors["rope_freqs.weight"].values = {5, 3};
  check_refused(model, "rope_freqs.weight");
  model.tensors["rope_freqs.weight"] = {{3}, 0, {1, 1, 1}};
  check_refused(model, "rope_freqs.weight");
  model.tensors["rope_freqs.weight"] = {{2}, 0, {1, 1}};  // changes nothing
  const TemporaryFolder folder;
  check_converted(to_hf(folder, model));
}

TEST_SUITE_END();

}  // namespace mora::testing
