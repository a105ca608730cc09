// The pre-tokenizers of byte-level BPE that GGUF names (`tokenizer.ggml.pre`), as the parts of a
// tokenizer.json that they stand for, and the name for such parts.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "io/json.hpp"

namespace mora {

struct NamedPreTokenizer {
  std::string_view name;
  // What cuts the text, one after the other: "digits" (each number character alone), "gpt-2" (the
  // pattern built into ByteLevel), or a regular expression whose matches become pieces.
  std::span<const std::string_view> steps;
  bool nfc = false;            // normalises to NFC first
  bool ignore_merges = false;  // a whole word of the vocabulary is taken without merging
  bool bos = false;            // llama.cpp puts BOS in front where the file does not say
};

const NamedPreTokenizer* find_pre_tokenizer(std::string_view name);  // null if unknown
std::string known_pre_tokenizers();                                  // for messages

Json normalizer_json(const NamedPreTokenizer& pre);
Json pre_tokenizer_json(const NamedPreTokenizer& pre);

// The entry that does what this tokenizer.json says. Error(data) names what has no name in GGUF.
const NamedPreTokenizer& pre_tokenizer_of(const JsonView& tokenizer);

}  // namespace mora
