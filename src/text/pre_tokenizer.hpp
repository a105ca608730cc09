// The pre-tokenizer of a tokenizer.json: splits the text into the pieces within which merges
// happen.
//
// Invariant: pieces with an id pass unchanged, and no piece is empty.
#pragma once

#include <functional>
#include <vector>

#include "text/component.hpp"
#include "text/pieces.hpp"

namespace mora {

// How Metaspace puts its replacement in front: in front of every piece, of the one at the start of
// the text, of none.
enum class PrependScheme { always, first, never };

struct Metaspace {
  std::string replacement;
  PrependScheme scheme = PrependScheme::always;
  bool splits = true;
};

// Both forms: add_prefix_space (version 1) and prepend_scheme (version 2).
Metaspace read_metaspace(const JsonView& json);

// The character that stands for a byte in byte-level vocabularies, and back (-1 if it stands for
// none).
char32_t byte_level_character(uint8_t byte);
int byte_of_character(char32_t c);

class PreTokenizer {
 public:
  PreTokenizer() = default;  // changes nothing

  // ByteLevel, Split, Sequence, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace; others
  // are Error(data).
  explicit PreTokenizer(const JsonView& json);

  void apply(Pieces& pieces, const EncodeContext& context) const;

 private:
  // Appends the parts of one piece.
  using Step = std::function<void(Piece&&, const EncodeContext&, Pieces&)>;

  static Step read_step(const JsonView& json);

  std::vector<Step> steps_;
};

}  // namespace mora
