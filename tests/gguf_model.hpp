// A tiny LLaMA in GGUF, metadata by key, so that a test can take a key away or give it another
// value: 8 tokens, hidden 4, 2 heads sharing one of keys and values, one layer.
#pragma once

#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "gguf_bytes.hpp"
#include "mora/models/llama_gguf.hpp"
#include "temporary_folder.hpp"

namespace mora::testing {

inline std::string u32_value(const std::string& key, uint32_t value) {
  return gguf_value(key, GgufType::u32, raw(value));
}
inline std::string f32_value(const std::string& key, float value) {
  return gguf_value(key, GgufType::f32, raw(value));
}
inline std::string bool_value(const std::string& key, bool value) {
  return gguf_value(key, GgufType::boolean, raw(static_cast<uint8_t>(value)));
}
inline std::string text_value(const std::string& key, std::string_view value) {
  return gguf_value(key, GgufType::string, gguf_text(value));
}
inline std::string texts_value(const std::string& key, const std::vector<std::string>& list) {
  std::string payload;
  for (const std::string& text : list) payload += gguf_text(text);
  return gguf_array(key, GgufType::string, list.size(), payload);
}
inline std::string i32s_value(const std::string& key, const std::vector<int32_t>& list) {
  std::string payload;
  for (int32_t value : list) payload += raw(value);
  return gguf_array(key, GgufType::i32, list.size(), payload);
}
inline std::string f32s_value(const std::string& key, const std::vector<float>& list) {
  std::string payload;
  for (float value : list) payload += raw(value);
  return gguf_array(key, GgufType::f32, list.size(), payload);
}

struct TinyGguf {
  struct Part {
    std::vector<int64_t> shape;  // row-major
    uint32_t type = 0;
    std::vector<float> values;
  };

  std::map<std::string, std::string> values;  // by key, with the key
  std::map<std::string, Part> tensors;

  TinyGguf() {
    set(text_value("general.architecture", "llama"));
    for (const auto& [name, size] : std::map<std::string, uint32_t>{{"vocab_size", 8},
                                                                    {"context_length", 64},
                                                                    {"embedding_length", 4},
                                                                    {"block_count", 1},
                                                                    {"feed_forward_length", 6},
                                                                    {"attention.head_count", 2},
                                                                    {"attention.head_count_kv", 1},
                                                                    {"attention.key_length", 4}}) {
      set(u32_value("llama." + name, size));
    }
    set(f32_value("llama.attention.layer_norm_rms_epsilon", 1e-5f));
    const LlamaConfig config = {.vocab_size = 8,
                                .hidden_size = 4,
                                .intermediate_size = 6,
                                .num_hidden_layers = 1,
                                .num_attention_heads = 2,
                                .num_key_value_heads = 1,
                                .head_dim = 4};
    float next = 0;
    for (const LlamaGgufTensor& t : llama_gguf_tensors(config)) {
      Part& part = tensors[t.gguf];
      part.shape = t.shape;
      part.values.resize(static_cast<size_t>(t.shape[0] * (t.shape.size() > 1 ? t.shape[1] : 1)));
      for (float& value : part.values) value = next += 0.25f;
    }
    byte_level();
  }

  // A value made by the functions above, in place of one of the same key.
  TinyGguf& set(const std::string& value) {
    uint64_t length = 0;
    std::memcpy(&length, value.data(), sizeof length);
    values[value.substr(sizeof length, length)] = value;
    return *this;
  }
  TinyGguf& remove(const std::string& key) {
    values.erase(key);
    return *this;
  }

  TinyGguf& byte_level() {
    set(text_value("tokenizer.ggml.model", "gpt2"));
    set(text_value("tokenizer.ggml.pre", "smollm"));
    set(texts_value("tokenizer.ggml.tokens",
                    {"<|end|>", "a", "b", "c", "ab", "abc", "<tool>", "[PAD7]"}));
    set(i32s_value("tokenizer.ggml.token_type", {3, 1, 1, 1, 1, 1, 4, 5}));
    set(texts_value("tokenizer.ggml.merges", {"a b", "ab c"}));
    set(u32_value("tokenizer.ggml.bos_token_id", 0));
    return set(u32_value("tokenizer.ggml.eos_token_id", 0));
  }

  TinyGguf& sentencepiece() {
    remove("tokenizer.ggml.pre").remove("tokenizer.ggml.merges");
    set(text_value("tokenizer.ggml.model", "llama"));
    set(texts_value("tokenizer.ggml.tokens",
                    {"<unk>", "<s>", "</s>", "\xE2\x96\x81", "a", "b", "ab",
                     "\xE2\x96\x81"
                     "ab"}));
    set(f32s_value("tokenizer.ggml.scores", {0, 0, 0, -3, -4, -5, -1, -2}));
    set(i32s_value("tokenizer.ggml.token_type", {2, 3, 3, 1, 1, 1, 1, 1}));
    set(u32_value("tokenizer.ggml.bos_token_id", 1));
    return set(u32_value("tokenizer.ggml.eos_token_id", 2));
  }

  std::string bytes() const {
    GgufBytes file;
    file.values.clear(), file.tensors.clear(), file.data.clear();
    for (const auto& [key, value] : values) file.values.push_back(value);
    for (const auto& [name, part] : tensors) {
      file.tensors.push_back(
          gguf_tensor(name, {part.shape.rbegin(), part.shape.rend()}, part.type, file.data.size()));
      file.data.append(reinterpret_cast<const char*>(part.values.data()),
                       part.values.size() * sizeof(float));
      file.data.resize((file.data.size() + 31) / 32 * 32, '\0');
    }
    return file.bytes();
  }
};

}  // namespace mora::testing
