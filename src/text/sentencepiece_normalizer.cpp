// Follows Normalizer::Normalize() of sentencepiece (github.com/google/sentencepiece,
// src/normalizer.cc, 0.1.97 to 0.2.0) step by step, also where it is odd: a literal mark at the end
// is taken off like a space.
#include "text/sentencepiece_normalizer.hpp"

#include "text/sentencepiece_model.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

PieceTrie user_defined_pieces(const SentencePieceModel& model) {
  std::vector<std::pair<std::string_view, int32_t>> texts;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    if (model.pieces[id].type == PieceType::user_defined) {
      texts.emplace_back(model.pieces[id].text, static_cast<int32_t>(id));
    }
  }
  return PieceTrie(std::move(texts));
}

}  // namespace

SentencePieceNormalizer::SentencePieceNormalizer(const SentencePieceModel& model,
                                                 const std::string& what)
    : map_(model.character_map, what),
      user_defined_(user_defined_pieces(model)),
      space_(model.escape_whitespaces ? "\u2581" : " "),
      removes_extra_(model.remove_extra_whitespaces),
      marks_front_(model.add_dummy_prefix && !model.space_as_suffix),
      marks_end_(model.add_dummy_prefix && model.space_as_suffix) {}

// How many bytes of the text come next, and what they become.
CharacterMap::Match SentencePieceNormalizer::step(std::string_view rest) const {
  if (const size_t own = user_defined_.longest(rest)) return {own, rest.substr(0, own)};
  if (const CharacterMap::Match mapped = map_.longest(rest); mapped.bytes > 0) return mapped;
  const size_t length = utf8_character_bytes(rest);
  return length > 0 ? CharacterMap::Match{length, rest.substr(0, length)}
                    : CharacterMap::Match{1, "\uFFFD"};
}

std::string SentencePieceNormalizer::apply(std::string_view text, Position position) const {
  std::string normal;
  const bool at_front = position == Position::beginning;
  while (at_front && removes_extra_ && !text.empty()) {
    const auto [bytes, becomes] = step(text);
    if (becomes != " ") break;
    text.remove_prefix(bytes);
  }
  if (text.empty()) return normal;
  normal.reserve(text.size() + text.size() / 2);
  if (at_front && marks_front_) normal += space_;
  bool after_space = at_front && removes_extra_;
  while (!text.empty()) {
    auto [bytes, becomes] = step(text);
    text.remove_prefix(bytes);
    while (after_space && becomes.starts_with(' ')) becomes.remove_prefix(1);
    if (!becomes.empty()) {
      after_space = removes_extra_ && becomes.back() == ' ';
      for (const char c : becomes) {
        if (c == ' ') {
          normal += space_;
        } else {
          normal += c;
        }
      }
    }
  }
  while (removes_extra_ && normal.ends_with(space_)) normal.resize(normal.size() - space_.size());
  if (marks_end_) normal += space_;
  return normal;
}

}  // namespace mora
