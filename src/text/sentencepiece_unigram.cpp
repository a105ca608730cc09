// unigram::Model::EncodeOptimized() of sentencepiece (github.com/google/sentencepiece,
// src/unigram_model.cc, 0.1.97 to 0.2.0). A sum is kept as float, but what is compared with it is a
// float and a double added, as there. Where no piece reaches across, the best way so far is final:
// it is written and only its sum goes on.
#include "text/sentencepiece_unigram.hpp"

#include <algorithm>
#include <cfloat>

#include "mora/core/error.hpp"
#include "text/sentencepiece_model.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr float kUnknownPenalty = 10.0f;

PieceTrie usable_pieces(const SentencePieceModel& model) {
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const VocabularyPiece& piece = model.pieces[id];
    if (piece.type == PieceType::normal || piece.type == PieceType::user_defined) {
      texts.emplace_back(piece.text, static_cast<int32_t>(id));
    }
  }
  return PieceTrie(std::move(texts));
}

}  // namespace

SentencePieceUnigram::SentencePieceUnigram(const SentencePieceModel& model)
    : ids_(model), trie_(usable_pieces(model)) {
  float lowest = FLT_MAX,
        highest = FLT_MIN;  // the latter is the library's, a small positive number
  for (const VocabularyPiece& piece : model.pieces) {
    if (piece.type != PieceType::normal) continue;
    lowest = std::min(lowest, piece.score);
    highest = std::max(highest, piece.score);
  }
  unknown_score_ = lowest - kUnknownPenalty;
  for (const VocabularyPiece& piece : model.pieces) {
    const float bonus = static_cast<float>(piece.text.size()) * highest;
    scores_.push_back(piece.type == PieceType::user_defined ? bonus - 0.1 : piece.score);
  }
}

void SentencePieceUnigram::encode(std::string_view text, Scratch& scratch,
                                  std::vector<int32_t>& ids) const {
  auto& best = scratch.best;
  best.assign(1, {0, -1, 0});
  size_t begin = 0;  // of what is not written yet
  size_t reached = 0;
  for (size_t at = 0; at < text.size(); at += code_point_bytes(text, at)) {
    if (at == reached && at > begin) {
      append_best(text.substr(begin, at - begin), scratch, ids);
      begin = at;
    }
    reached = std::max(reached, at + add_pieces_at(text.substr(at), at - begin, scratch));
  }
  append_best(text.substr(begin), scratch, ids);
}

// Tries all pieces that begin at place `at` of the part; returns the size of the longest.
size_t SentencePieceUnigram::add_pieces_at(std::string_view rest, size_t at,
                                           Scratch& scratch) const {
  auto& best = scratch.best;
  const float sum = best[at].sum;
  const auto add = [&](size_t size, int32_t id, auto score) {
    if (best.size() <= at + size) best.resize(at + size + 1, {0, -1, 0});
    auto& target = best[at + size];
    const auto candidate = score + sum;
    if (target.size != 0 && !(candidate > target.sum)) return;
    target = {static_cast<float>(candidate), id, static_cast<uint32_t>(size)};
  };
  const size_t character = code_point_bytes(rest, 0);
  bool has_character = false;
  size_t longest = character;
  uint32_t node = PieceTrie::kRoot;
  for (size_t i = 0; i < rest.size() && !trie_.empty(); ++i) {
    node = trie_.next(node, rest[i]);
    if (node == PieceTrie::kNowhere) break;
    const int32_t id = trie_.id(node);
    if (id < 0) continue;
    add(i + 1, id, scores_[static_cast<size_t>(id)]);
    has_character = has_character || i + 1 == character;
    longest = std::max(longest, i + 1);
  }
  if (!has_character) add(character, ids_.unknown(), unknown_score_);
  return longest;
}

// Writes the best way through the part and begins the next one with its sum.
void SentencePieceUnigram::append_best(std::string_view part, Scratch& scratch,
                                       std::vector<int32_t>& ids) const {
  const auto& best = scratch.best;
  auto& ends = scratch.ends;
  ends.clear();
  for (size_t at = part.size(); at > 0; at -= best[at].size) {
    ends.push_back(at);
  }
  for (size_t i = ends.size(); i-- > 0;) {
    const auto& last = best[ends[i]];
    ids_.append(last.id, part.substr(ends[i] - last.size, last.size), 0, ids);
  }
  const float sum = best[part.size()].sum;
  scratch.best.assign(1, {sum, -1, 0});
}

}  // namespace mora
