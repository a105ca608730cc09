// What passes through a tokenizer: pieces of the text, in order, and how a pattern splits them.
//
// Invariant: a piece's text is valid UTF-8 and not empty; a piece with an id is an added token and
// is not looked at again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/position.hpp"
#include "text/regex.hpp"

namespace mora {

class JsonView;

struct Piece {
  std::string text;
  bool at_start = false;  // begins where the caller's text begins
  std::optional<int32_t> id = std::nullopt;
};

using Pieces = std::vector<Piece>;

// What every step of one encode() call shares.
struct EncodeContext {
  RegexScratch& regex;
  Position position;

  bool keeps_front(const Piece& piece) const {
    return position == Position::continuation && piece.at_start;
  }
};

struct Span {
  size_t begin, end;
  bool is_match;
};

// Spans cover the text without gaps.
using Spans = std::vector<Span>;

// The behaviours of the reference's SplitDelimiterBehavior.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

SplitBehavior read_split_behavior(const JsonView& json);

// Appends the parts of `piece` that the spans and the behaviour make, without empty ones.
void split_piece(Piece&& piece, Spans spans, SplitBehavior behavior, Pieces& out);

// {"String": text} or {"Regex": expression}.
class Pattern {
 public:
  explicit Pattern(const JsonView& json);

  Spans find(std::string_view text, RegexScratch& scratch) const;

 private:
  std::string literal_;
  std::optional<Regex> regex_;
};

// Spans of single characters, as a predicate of the reference finds them: each matching character
// is a span of its own.
template <class Predicate>
Spans find_characters(std::string_view text, const Predicate& matches);

inline void swap_matches(Spans& spans) {
  for (Span& span : spans) span.is_match = !span.is_match;
}

}  // namespace mora

#include "text/unicode.hpp"

template <class Predicate>
mora::Spans mora::find_characters(std::string_view text, const Predicate& matches) {
  Spans spans;
  size_t covered = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t begin = at;
    if (!matches(next_code_point(text, at))) continue;
    if (covered < begin) spans.push_back({covered, begin, false});
    spans.push_back({begin, at, true});
    covered = at;
  }
  if (covered < text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}
