// Merging by a linked list of symbols and a heap of candidate pairs, lowest rank first and leftmost
// among equals, which is the order of the reference.
//
// A long piece is first cut between characters that stand side by side in no merge: no merge can
// reach across, so the parts are independent, small, and mostly in the cache.
#include "text/bpe_model.hpp"

#include <algorithm>
#include <bit>
#include <functional>

#include "mora/io/text.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

uint64_t mixed(uint64_t key) {
  key *= 0x9E3779B97F4A7C15u;
  return key ^ key >> 29;
}

std::string byte_token(int byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return str("<0x", kDigits[byte >> 4], kDigits[byte & 15], '>');
}

// The symbols that are left of a piece, as a linked list in an array.
struct Symbol {
  int32_t id;  // -1: merged into the symbol before it
  uint32_t previous;
  uint32_t next;
};

constexpr uint32_t kEnd = UINT32_MAX;

}  // namespace

BpeModel::BpeModel(const JsonView& json) {
  if (json.has("type") && component_type(json) != "BPE") refuse_type(json, "model", "BPE");
  check_keys(json, {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                    "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"});
  if (json.has("dropout")) {
    json.at("dropout").wrong("dropout makes ids random and is not supported; expected null");
  }
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (json.has(affix) && !json.at(affix).string().empty()) {
      json.at(affix).wrong(str(affix, " is not supported; expected null or \"\""));
    }
  }
  fuses_unknown_ = boolean_or(json, "fuse_unk", false);
  byte_fallback_ = boolean_or(json, "byte_fallback", false);
  ignores_merges_ = boolean_or(json, "ignore_merges", false);
  read_vocabulary(json.at("vocab"));
  if (json.has("unk_token")) {
    unknown_ = known(json.at("unk_token"), json.at("unk_token").string());
  }
  read_merges(json.at("merges"));
}

void BpeModel::read_vocabulary(const JsonView& json) {
  if (!json.json().is_object()) json.wrong_type("an object of token and id");
  std::unordered_set<int32_t> ids;
  for (const auto& [token, value] : json.json().items()) {
    int64_t id = -1;
    if (!to_int(value, id) || id < 0 || id >= INT32_MAX) {
      json.at(token).wrong_type("an id from 0 to 2147483646");
    }
    if (!ids.insert(static_cast<int32_t>(id)).second) {
      json.at(token).wrong(str("id ", id, " belongs to another token, too"));
    }
    vocabulary_.emplace(token, static_cast<int32_t>(id));
    longest_ = std::max(longest_, token.size());
  }
  if (vocabulary_.empty()) json.wrong("the vocabulary is empty");
  for (char32_t c = 0; c < short_symbols_.size(); ++c) {
    std::string character;
    append_utf8(character, c);
    const auto found = vocabulary_.find(character);
    short_symbols_[c] = found == vocabulary_.end() ? -1 : found->second;
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = vocabulary_.find(byte_token(byte));
    byte_symbols_[byte] = found == vocabulary_.end() ? -1 : found->second;
  }
}

int32_t BpeModel::known(const JsonView& json, std::string_view token) const {
  const auto found = vocabulary_.find(token);
  if (found == vocabulary_.end()) {
    json.wrong(str("token \"", printable(token), "\" is not in the vocabulary"));
  }
  return found->second;
}

// Each merge is "left right", or ["left", "right"]; all of them in the same way.
void BpeModel::read_merges(const JsonView& json) {
  if (!json.json().is_array()) json.wrong_type("an array of merges");
  const Json& merges = json.json();
  const bool pairs = !merges.empty() && merges.front().is_array();
  for (size_t i = 0; i < merges.size(); ++i) {
    const Json& merge = merges[i];
    const auto view = [&] { return json.items()[i]; };  // slow, for errors only
    if (pairs) {
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
          !merge[1].is_string()) {
        view().wrong_type("a merge as [\"left\", \"right\"], as the first one is");
      }
      add_merge(json, merge[0].get_ref<const std::string&>(),
                merge[1].get_ref<const std::string&>());
      continue;
    }
    if (!merge.is_string()) view().wrong_type("a merge as \"left right\", as the first one is");
    const std::string_view both = merge.get_ref<const std::string&>();
    if (both.starts_with("#version")) continue;
    const size_t space = both.find(' ');
    if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos) {
      view().wrong_type("a merge as \"left right\" with one space");
    }
    add_merge(json, both.substr(0, space), both.substr(space + 1));
  }
  build_merge_table(pairs_);
  pairs_ = {};
}

void BpeModel::add_merge(const JsonView& json, std::string_view left, std::string_view right) {
  const int32_t a = known(json, left);
  const int32_t b = known(json, right);
  std::string joined(left);
  joined += right;
  merged_.push_back(known(json, joined));
  pairs_.push_back(pair_of(a, b));
  const auto is_byte = [&](int32_t id) {
    return std::find(byte_symbols_.begin(), byte_symbols_.end(), id) != byte_symbols_.end();
  };
  // A symbol of the text that is not the character it stands for: its neighbours in the token's
  // text say nothing.
  if (a == unknown_ || b == unknown_ || left.empty() || right.empty() ||
      (byte_fallback_ && ((left.size() == 6 && is_byte(a)) || (right.size() == 6 && is_byte(b))))) {
    cuts_ = false;
    return;
  }
  size_t at = previous_code_point(left, left.size());
  const char32_t before = next_code_point(left, at);
  at = 0;
  const char32_t after = next_code_point(right, at);
  joints_.add(before, after);
}

void BpeModel::build_merge_table(const std::vector<uint64_t>& pairs) {
  merge_table_.assign(std::bit_ceil(pairs.size() * 2 + 16), {0, kNoRank});
  const size_t mask = merge_table_.size() - 1;
  for (size_t rank = 0; rank < pairs.size(); ++rank) {
    size_t slot = mixed(pairs[rank]) & mask;
    while (merge_table_[slot].rank != kNoRank && merge_table_[slot].pair != pairs[rank]) {
      slot = (slot + 1) & mask;
    }
    merge_table_[slot] = {pairs[rank], static_cast<uint32_t>(rank)};  // the last of equals counts
  }
}

std::optional<uint32_t> BpeModel::rank_of(int32_t left, int32_t right) const {
  const uint64_t pair = pair_of(left, right);
  const size_t mask = merge_table_.size() - 1;
  for (size_t slot = mixed(pair) & mask; merge_table_[slot].rank != kNoRank;
       slot = (slot + 1) & mask) {
    if (merge_table_[slot].pair == pair) return merge_table_[slot].rank;
  }
  return std::nullopt;
}

int32_t BpeModel::symbol_of(std::string_view character) const {
  if (character.size() <= 2) {
    size_t at = 0;
    return short_symbols_[next_code_point(character, at)];
  }
  const auto found = vocabulary_.find(character);
  return found == vocabulary_.end() ? -1 : found->second;
}

void BpeModel::encode(std::string_view piece, PieceCache& cache, std::vector<int32_t>& ids) const {
  if (ignores_merges_ && piece.size() <= longest_) {
    const auto found = vocabulary_.find(piece);
    if (found != vocabulary_.end()) {
      ids.push_back(found->second);
      return;
    }
  }
  if (!cuts_ || piece.size() <= PieceCache::kMaxBytes) return encode_uncut(piece, cache, ids);
  size_t begin = 0;
  char32_t before = 0;
  bool before_known = false;
  for (size_t at = 0; at < piece.size();) {
    const size_t here = at;
    const char32_t c = next_code_point(piece, at);
    const bool is_known = symbol_of(piece.substr(here, at - here)) >= 0;
    if (before_known && is_known && !joints_.has(before, c)) {
      encode_uncut(piece.substr(begin, here - begin), cache, ids);
      begin = here;
    }
    before = c;
    before_known = is_known;
  }
  encode_uncut(piece.substr(begin), cache, ids);
}

void BpeModel::encode_uncut(std::string_view piece, PieceCache& cache,
                            std::vector<int32_t>& ids) const {
  cache.append(piece, ids,
               [this](std::string_view text, std::vector<int32_t>& out) { merge(text, out); });
}

std::vector<int32_t> BpeModel::symbols(std::string_view piece) const {
  std::vector<int32_t> ids;
  ids.reserve(piece.size());
  bool pending = false;  // an unknown token that follows when it is complete
  const auto flush = [&] {
    if (pending) ids.push_back(*unknown_);
    pending = false;
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t here = at;
    at += code_point_bytes(piece, at);
    const std::string_view character = piece.substr(here, at - here);
    const int32_t id = symbol_of(character);
    if (id >= 0) {
      flush();
      ids.push_back(id);
      continue;
    }
    const auto symbol = [&](char c) { return byte_symbols_[static_cast<uint8_t>(c)]; };
    if (byte_fallback_ &&
        std::all_of(character.begin(), character.end(), [&](char c) { return symbol(c) >= 0; })) {
      // The reference leaves a pending unknown token pending here.
      for (const char c : character) ids.push_back(symbol(c));
      continue;
    }
    if (!unknown_) continue;
    if (!fuses_unknown_) flush();
    pending = true;
  }
  flush();
  return ids;
}

void BpeModel::merge(std::string_view piece, std::vector<int32_t>& ids) const {
  const std::vector<int32_t> begin = symbols(piece);
  const auto count = static_cast<uint32_t>(begin.size());
  std::vector<Symbol> list(count);
  std::vector<uint64_t> heap;  // rank << 32 | position
  const auto candidate = [&](uint32_t left, uint32_t right) {
    const auto rank = rank_of(list[left].id, list[right].id);
    if (rank) heap.push_back(static_cast<uint64_t>(*rank) << 32 | left);
    return rank.has_value();
  };
  for (uint32_t i = 0; i < count; ++i) {
    list[i] = {begin[i], i == 0 ? kEnd : i - 1, i + 1 == count ? kEnd : i + 1};
    if (i > 0) candidate(i - 1, i);
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t left, uint32_t right) {
    if (candidate(left, right)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto at = static_cast<uint32_t>(top);
    Symbol& left = list[at];
    if (left.id < 0 || left.next == kEnd) continue;
    const uint32_t removed = left.next;
    const auto rank = rank_of(left.id, list[removed].id);
    const int32_t made = merged_[top >> 32];
    if (!rank || merged_[*rank] != made) continue;  // its symbols are no longer these
    left.id = made;
    left.next = list[removed].next;
    list[removed].id = -1;
    if (left.next != kEnd) list[left.next].previous = at;
    if (left.previous != kEnd) push(left.previous, at);
    if (left.next != kEnd) push(at, left.next);
  }
  for (const Symbol& symbol : list) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace mora
