// SentencePiece's unigram model: of all ways to cut normalised text into pieces, the one with the
// highest sum of scores.
//
// Invariant: sums are the library's, rounded as it rounds them from the beginning of the text on,
// so ties fall the same way; memory is that of the longest part that pieces can reach across.
#pragma once

#include <string_view>
#include <vector>

#include "text/piece_trie.hpp"
#include "text/sentencepiece_ids.hpp"

namespace mora {

class SentencePieceUnigram {
 public:
  struct Scratch {
    // The best way to a place in the text: its sum and its last piece.
    struct Best {
      float sum;
      int32_t id;
      uint32_t size;  // of the piece; 0: nothing ends here
    };

    std::vector<Best> best;
    std::vector<size_t> ends;
  };

  explicit SentencePieceUnigram(const SentencePieceModel& model);

  // Appends the ids of valid UTF-8 that was normalised.
  void encode(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const;

 private:
  size_t add_pieces_at(std::string_view rest, size_t at, Scratch& scratch) const;
  void append_best(std::string_view part, Scratch& scratch, std::vector<int32_t>& ids) const;

  SentencePieceIds ids_;
  PieceTrie trie_;
  std::vector<double> scores_;  // by id
  float unknown_score_;
};

}  // namespace mora
