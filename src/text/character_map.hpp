// The character map of a SentencePiece model: which texts are replaced by which.
//
// Invariant: a map that was accepted cannot lead a search out of itself, neither here nor in the
// sentencepiece library, which checks only its size; what it puts in is UTF-8.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mora {

class CharacterMap {
 public:
  CharacterMap() = default;  // replaces nothing

  // `bytes`: precompiled_charsmap of sentencepiece_model.proto, or nothing. Error(data), beginning
  // with `what`, where a search could leave the trie or the texts, go on without end or find more
  // rules than the library has room for.
  CharacterMap(std::string_view bytes, const std::string& what);

  struct Match {
    size_t bytes = 0;       // of the text that is replaced; 0: there is no rule
    std::string_view text;  // what it becomes
  };

  // The rule for the longest beginning of `rest`.
  Match longest(std::string_view rest) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace mora
