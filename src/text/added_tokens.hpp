// The tokens that are added to a tokenizer's own: found in the text before anything else is.
//
// Invariant: an id stands for one token, the one for which the reference takes it; matching is
// leftmost, then longest, as in the reference.
#pragma once

#include <array>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "text/component.hpp"
#include "text/pieces.hpp"

namespace mora {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
  bool special = false;
  std::string source = {};  // the file that names it, for messages
};

// An element of "added_tokens"; the id is in the element or given, as in added_tokens_decoder.
AddedToken read_added_token(const JsonView& json, std::optional<int32_t> id = std::nullopt);

// Finds strings in a text, longest first.
class TokenMatcher {
 public:
  // False if the pattern is there already. The pattern is not empty.
  bool add(std::string_view pattern, int32_t id);

  // Length and id of the longest pattern that begins at `at`; length 0 if none does.
  std::pair<size_t, int32_t> match(std::string_view text, size_t at) const;

 private:
  struct Node {
    int32_t id = -1;
    std::vector<std::pair<char, uint32_t>> next;
  };

  std::vector<Node> nodes_ = std::vector<Node>(1);
  std::array<uint32_t, 256> first_{};  // the root's children, 0 for none
};

// What a tokenizer has without its added tokens.
struct OwnTokens {
  size_t count = 0;
  std::function<std::optional<int32_t>(const std::string& text)> id_of;
};

// What a tokenizer does to text before it looks for tokens with "normalized".
using Normalize = std::function<void(Piece&)>;

class AddedTokens {
 public:
  AddedTokens() = default;  // none

  // Tokens later in the list replace those with the same content. Error(data) names file and token
  // where the reference would take another id (the tokenizer's own for this text, else the next
  // free one), or where the normalised text is empty or another token's.
  AddedTokens(const std::vector<AddedToken>& tokens, const OwnTokens& own,
              const Normalize& normalize);

  // The normalised text in pieces, added tokens with their ids. Bytes that are not UTF-8 are
  // U+FFFD.
  Pieces split(std::string_view text, const Normalize& normalize) const;

  bool empty() const { return tokens_.empty(); }
  int32_t end_id() const;  // one more than the largest id; 0 for none
  const AddedToken* find(int32_t id) const;
  std::optional<int32_t> id_of(const std::string& content) const;

  // What decoding starts from: the normalised form, where the token is matched in that form.
  const std::string& decoded_form(int32_t id) const { return forms_.at(id); }

  // As the reference decides when it leaves out special tokens: by the text.
  bool is_special(const std::string& form) const { return special_.count(form) > 0; }

 private:
  void split_piece(Piece&& piece, const TokenMatcher& matcher, Pieces& out) const;

  std::unordered_map<int32_t, AddedToken> tokens_;
  std::unordered_map<int32_t, std::string> forms_;
  std::unordered_map<std::string, int32_t> ids_;
  std::unordered_set<std::string> special_;
  TokenMatcher raw_;
  TokenMatcher normalized_;
};

}  // namespace mora
