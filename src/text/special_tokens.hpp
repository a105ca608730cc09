// What the files beside a tokenizer say about BOS, EOS and added tokens.
//
// Invariant: a file that is there and cannot be read is an error; only a missing one is passed
// over.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "text/added_tokens.hpp"

namespace mora {

// BOS or EOS, as the first file says that says anything; `known` also where it says there is none.
struct SpecialToken {
  bool known = false;
  std::string source;  // file and key, for messages
  std::optional<std::string> text;
  std::optional<int32_t> id;
};

struct TokenizerSettings {
  SpecialToken bos, eos;
  std::optional<bool> add_bos, add_eos;  // add_bos_token and add_eos_token
  // Whether text behind an added token begins anew, with a mark for a space in front ("legacy").
  bool begins_anew = true;
  std::vector<AddedToken> added;   // added_tokens_decoder, by id
  std::vector<AddedToken> listed;  // added_tokens.json, by id, without added_tokens_decoder
};

// Error(data): no token of the tokenizer has the text of this one.
[[noreturn]] void refuse_unknown(const SpecialToken& token);

// From tokenizer_config.json, else special_tokens_map.json, else config.json, else
// generation_config.json (whose eos_token_id may be a list: its first counts). Tokens of
// added_tokens.json are special where the first two name them as such.
TokenizerSettings read_tokenizer_settings(const std::filesystem::path& folder);

}  // namespace mora
