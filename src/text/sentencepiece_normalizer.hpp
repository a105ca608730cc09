// How a SentencePiece model changes text before it is cut: character map, spaces, the mark for a
// space and the one in front.
//
// Invariant: the result is what the library's Normalizer gives, and valid UTF-8 whatever the text
// is.
#pragma once

#include <string>
#include <string_view>

#include "text/character_map.hpp"
#include "text/piece_trie.hpp"
#include "text/position.hpp"

namespace mora {

struct SentencePieceModel;

class SentencePieceNormalizer {
 public:
  // Keeps nothing of the model. Error(data), beginning with `what`, for a broken character map.
  SentencePieceNormalizer(const SentencePieceModel& model, const std::string& what);

  std::string apply(std::string_view text, Position position) const;

  // User-defined pieces: they stay as they are, here and where the text is cut.
  const PieceTrie& user_defined() const { return user_defined_; }

 private:
  CharacterMap::Match step(std::string_view rest) const;

  CharacterMap map_;
  PieceTrie user_defined_;
  std::string_view space_;  // what a space becomes
  bool removes_extra_, marks_front_, marks_end_;
};

}  // namespace mora
