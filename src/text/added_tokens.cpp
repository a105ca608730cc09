// Matching by a trie: tokens are short (kMaxTokenBytes), so that one walk per position is enough.
#include "text/added_tokens.hpp"

#include <algorithm>

#include "mora/io/text.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr size_t kMaxTokenBytes = 1024;

bool ends_with_word(std::string_view text) {
  size_t at = previous_code_point(text, text.size());
  return is_word(next_code_point(text, at));
}

bool starts_with_word(std::string_view text) {
  size_t at = 0;
  return is_word(next_code_point(text, at));
}

// Where the white space at the end of the text begins.
size_t trailing_space(std::string_view text) {
  size_t begin = text.size();
  while (begin > 0) {
    const size_t previous = previous_code_point(text, begin);
    size_t at = previous;
    if (!is_white_space(next_code_point(text, at))) break;
    begin = previous;
  }
  return begin;
}

size_t leading_space(std::string_view text) {
  size_t end = 0;
  for (size_t at = 0; at < text.size() && is_white_space(next_code_point(text, at));) end = at;
  return end;
}

[[noreturn]] void refuse(const AddedToken& token, std::string_view problem) {
  fail(ErrorKind::data, printable(token.source, 4096), ": added token \"", printable(token.content),
       "\" has id ", token.id, ", ", problem);
}

// The reference takes the id that the vocabulary has for a token's text, else the next free one,
// whatever a file says.
void check_ids(const std::vector<AddedToken>& tokens, const OwnTokens& own) {
  std::unordered_map<std::string, int32_t> ids;
  auto next = static_cast<int32_t>(own.count);
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;
    const auto [entry, is_new] = ids.try_emplace(token.content, next);
    if (is_new) {
      const std::optional<int32_t> known = own.id_of(token.content);
      entry->second = known ? *known : next++;
    }
    if (entry->second != token.id) {
      refuse(token, str("but id ", entry->second,
                        " follows from the vocabulary, and transformers would take that one; "
                        "correct the id, or name the tokens of the ids before it"));
    }
  }
}

}  // namespace

AddedToken read_added_token(const JsonView& json, std::optional<int32_t> id) {
  check_keys(json, {"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special",
                    "__type"});
  AddedToken token;
  token.source = json.place();
  const int64_t number = id ? *id : json.at("id").integer();
  if (number < 0 || number >= INT32_MAX) json.at("id").wrong_type("an id from 0 to 2147483646");
  token.id = static_cast<int32_t>(number);
  token.content = json.at("content").string();
  if (token.content.size() > kMaxTokenBytes) {
    json.at("content").wrong(str("longer than ", kMaxTokenBytes, " bytes"));
  }
  token.single_word = boolean_or(json, "single_word", false);
  token.lstrip = boolean_or(json, "lstrip", false);
  token.rstrip = boolean_or(json, "rstrip", false);
  token.special = boolean_or(json, "special", false);
  token.normalized = boolean_or(json, "normalized", !token.special);
  return token;
}

bool TokenMatcher::add(std::string_view pattern, int32_t id) {
  uint32_t node = 0;
  for (const char c : pattern) {
    auto& next = nodes_[node].next;
    const auto found =
        std::find_if(next.begin(), next.end(), [c](const auto& edge) { return edge.first == c; });
    if (found != next.end()) {
      node = found->second;
      continue;
    }
    const auto made = static_cast<uint32_t>(nodes_.size());
    next.emplace_back(c, made);
    if (node == 0) first_[static_cast<uint8_t>(c)] = made;
    node = made;
    nodes_.emplace_back();
  }
  if (nodes_[node].id >= 0) return false;
  nodes_[node].id = id;
  return true;
}

std::pair<size_t, int32_t> TokenMatcher::match(std::string_view text, size_t at) const {
  uint32_t node = first_[static_cast<uint8_t>(text[at])];
  std::pair<size_t, int32_t> longest{0, -1};
  for (size_t end = at + 1; node != 0; ++end) {
    if (nodes_[node].id >= 0) longest = {end - at, nodes_[node].id};
    if (end >= text.size()) break;
    uint32_t child = 0;
    for (const auto& edge : nodes_[node].next) {
      if (edge.first == text[end]) child = edge.second;
    }
    node = child;
  }
  return longest;
}

AddedTokens::AddedTokens(const std::vector<AddedToken>& tokens, const OwnTokens& own,
                         const Normalize& normalize) {
  check_ids(tokens, own);
  for (const AddedToken& token : tokens) {
    if (token.content.empty()) continue;  // the reference takes no notice of it
    tokens_[token.id] = token;
    forms_[token.id] = token.content;
    ids_[token.content] = token.id;
    if (token.special) special_.insert(token.content);
  }
  std::vector<int32_t> ids;
  for (const auto& [id, token] : tokens_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (const int32_t id : ids) {
    const AddedToken& token = tokens_.at(id);
    if (token.normalized) {
      Piece piece{token.content};
      normalize(piece);
      forms_[id] = piece.text;
    }
    const bool added =
        !forms_[id].empty() && (token.normalized ? normalized_ : raw_).add(forms_[id], id);
    if (!added) {
      refuse(token, str("and its text is \"", printable(forms_[id]),
                        "\" after normalisation, which is empty or that of another added token"));
    }
  }
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = tokens_.find(id);
  return found == tokens_.end() ? nullptr : &found->second;
}

int32_t AddedTokens::end_id() const {
  int32_t end = 0;
  for (const auto& [id, token] : tokens_) end = std::max(end, id + 1);
  return end;
}

std::optional<int32_t> AddedTokens::id_of(const std::string& content) const {
  const auto found = ids_.find(content);
  return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

void AddedTokens::split_piece(Piece&& piece, const TokenMatcher& matcher, Pieces& out) const {
  const std::string_view text = piece.text;
  size_t covered = 0;
  const auto emit = [&](size_t begin, size_t end, std::optional<int32_t> id) {
    if (begin == end) return;
    out.push_back({std::string(text.substr(begin, end - begin)), piece.at_start && begin == 0, id});
  };
  for (size_t at = 0; at < text.size();) {
    const auto [length, id] = matcher.match(text, at);
    if (length == 0) {
      ++at;
      continue;
    }
    size_t begin = at;
    size_t end = at + length;
    at = end;
    const AddedToken& token = tokens_.at(id);
    if (token.single_word) {
      const bool alone = (begin == 0 || !ends_with_word(text.substr(0, begin))) &&
                         (end == text.size() || !starts_with_word(text.substr(end)));
      if (!alone) continue;
    }
    if (token.lstrip) begin = std::max(trailing_space(text.substr(0, begin)), covered);
    if (token.rstrip) end += leading_space(text.substr(end));
    if (covered < begin) emit(covered, begin, std::nullopt);
    emit(begin, end, id);
    covered = end;
  }
  if (covered == 0 && !text.empty()) {
    out.push_back(std::move(piece));
  } else if (covered != text.size()) {
    emit(covered, text.size(), std::nullopt);
  }
}

Pieces AddedTokens::split(std::string_view text, const Normalize& normalize) const {
  Pieces raw;
  split_piece({is_valid_utf8(text) ? std::string(text) : to_valid_utf8(text), true}, raw_, raw);
  Pieces pieces;
  for (Piece& piece : raw) {
    if (piece.id) {
      pieces.push_back(std::move(piece));
      continue;
    }
    normalize(piece);
    split_piece(std::move(piece), normalized_, pieces);
  }
  return pieces;
}

}  // namespace mora
