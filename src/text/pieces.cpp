// Patterns and the five ways to split at their matches. The order in which matches are merged is
// the reference's, also where a match is empty.
#include "text/pieces.hpp"

#include <algorithm>

#include "io/json.hpp"
#include "text/component.hpp"

namespace mora {
namespace {

// Joins a match to the span before it (in the order of the list), but not two matches.
Spans merged_with_previous(const Spans& spans) {
  Spans merged;
  bool after_match = false;
  for (const Span& span : spans) {
    if (span.is_match && !after_match && !merged.empty()) {
      merged.back().begin = std::min(merged.back().begin, span.begin);
      merged.back().end = std::max(merged.back().end, span.end);
    } else {
      merged.push_back({span.begin, span.end, false});
    }
    after_match = span.is_match;
  }
  return merged;
}

Spans contiguous(const Spans& spans) {
  Spans merged;
  bool after_match = false;
  for (const Span& span : spans) {
    if (span.is_match == after_match && !merged.empty()) {
      merged.back().end = span.end;
    } else {
      merged.push_back({span.begin, span.end, false});
    }
    after_match = span.is_match;
  }
  return merged;
}

}  // namespace

SplitBehavior read_split_behavior(const JsonView& json) {
  const std::string name = json.string();
  if (name == "Removed") return SplitBehavior::removed;
  if (name == "Isolated") return SplitBehavior::isolated;
  if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
  if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
  if (name == "Contiguous") return SplitBehavior::contiguous;
  json.wrong_type(
      "\"Removed\", \"Isolated\", \"MergedWithPrevious\", \"MergedWithNext\" or \"Contiguous\"");
}

void split_piece(Piece&& piece, Spans spans, SplitBehavior behavior, Pieces& out) {
  bool removes = false;
  switch (behavior) {
    case SplitBehavior::removed:
      removes = true;
      break;
    case SplitBehavior::isolated:
      break;
    case SplitBehavior::merged_with_previous:
      spans = merged_with_previous(spans);
      break;
    case SplitBehavior::merged_with_next:
      std::reverse(spans.begin(), spans.end());
      spans = merged_with_previous(spans);
      std::reverse(spans.begin(), spans.end());
      break;
    case SplitBehavior::contiguous:
      spans = contiguous(spans);
      break;
  }
  for (const Span& span : spans) {
    if (span.begin == span.end || (removes && span.is_match)) continue;
    if (span.begin == 0 && span.end == piece.text.size()) {
      out.push_back(std::move(piece));
      return;
    }
    out.push_back(
        {piece.text.substr(span.begin, span.end - span.begin), piece.at_start && span.begin == 0});
  }
}

Pattern::Pattern(const JsonView& json) {
  const auto members = json.members();
  const bool known =
      members.size() == 1 && (members[0].first == "String" || members[0].first == "Regex");
  if (!known) json.wrong("expected {\"String\": text} or {\"Regex\": expression}");
  const JsonView& value = members[0].second;
  const std::string text = value.string();
  if (text.empty()) value.wrong("an empty pattern is not supported");
  if (members[0].first == "String") {
    literal_ = text;
  } else {
    regex_ = read_regex(value);
  }
}

Spans Pattern::find(std::string_view text, RegexScratch& scratch) const {
  Spans spans;
  size_t covered = 0;
  const auto found = [&](size_t begin, size_t end) {
    if (covered != begin) spans.push_back({covered, begin, false});
    spans.push_back({begin, end, true});
    covered = end;
  };
  if (regex_) {
    regex_->find_all(text, scratch, found);
  } else {
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      found(at, at + literal_.size());
    }
  }
  if (covered != text.size()) spans.push_back({covered, text.size(), false});
  return spans;
}

}  // namespace mora
