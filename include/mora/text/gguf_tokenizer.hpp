// The tokenizer in a GGUF file and the files of a Hugging Face folder, one from the other.
//
// "gpt2" (byte-level BPE) is tokenizer.json; "llama" (SentencePiece BPE) is tokenizer.model. What
// one side has no way to say is refused by name, so that both cut text alike.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "mora/io/gguf.hpp"

namespace mora {

// tokenizer.json or tokenizer.model, tokenizer_config.json and generation_config.json by name.
// `vocab_size`: the model's rows; tokens "[PADn]" that only fill them up are left out. Error(data)
// names file and key.
std::map<std::string, std::string> tokenizer_files(const GgufFile& file, int64_t vocab_size);

// What the model's configuration says of its tokenizer; the tokenizer's own files come first.
struct TokenizerIds {
  int64_t vocab_size = 0;
  std::optional<int64_t> bos, eos, pad;
};

// The keys "tokenizer.*" for the tokenizer of a folder: tokenizer.model if it has one, else
// tokenizer.json. Error(data) if it has neither, or one that GGUF cannot express.
void add_tokenizer_keys(GgufMetadata& metadata, const std::filesystem::path& folder,
                        const TokenizerIds& ids);

}  // namespace mora
