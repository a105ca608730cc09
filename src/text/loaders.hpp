// The kinds of tokenizers that load_tokenizer() tells apart.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "mora/text/tokenizer.hpp"
#include "text/special_tokens.hpp"

namespace mora {

// The bytes of a tokenizer.json. `source` is for messages.
std::unique_ptr<Tokenizer> make_json_tokenizer(const std::string& text, const std::string& source,
                                               const TokenizerSettings& settings);

// The bytes of a SentencePiece model.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(const std::string& model,
                                                        const std::string& source,
                                                        const TokenizerSettings& settings);

}  // namespace mora
