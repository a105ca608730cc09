// SentencePiece's byte-pair encoding of normalised text: the pair whose joined text has the highest
// score is merged first, the leftmost among equals.
//
// Invariant: a text of n characters takes O(n log n) time. The model is immutable; what encoding
// remembers lies in the caller's scratch.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/joints.hpp"
#include "text/piece_cache.hpp"
#include "text/sentencepiece_ids.hpp"

namespace mora {

class PieceTrie;

class SentencePieceBpe {
 public:
  struct Scratch {
    struct Symbol {
      uint32_t begin, size;  // of its text; size 0: merged into the symbol before it
      uint32_t previous, next;
    };
    struct Candidate {
      float score;
      uint32_t left, right, size;
    };

    PieceCache cache;
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // The library must encode models with an unused piece that merges could make: which of its parts
  // then stand for it depends on all the text before. can_encode() says whether there is none.
  static bool can_encode(const SentencePieceModel& model);

  explicit SentencePieceBpe(const SentencePieceModel& model);

  // Appends the ids of valid UTF-8 that was normalised; `user_defined` are the pieces that stay
  // whole.
  void encode(std::string_view text, const PieceTrie& user_defined, Scratch& scratch,
              std::vector<int32_t>& ids) const;

 private:
  void append_part(std::string_view part, Scratch& scratch, std::vector<int32_t>& ids) const;
  void merge(std::string_view part, Scratch& scratch, std::vector<int32_t>& ids) const;

  SentencePieceIds ids_;
  std::unordered_map<std::string, float, TextHash, std::equal_to<>> scores_;
  Joints joints_;
};

}  // namespace mora
