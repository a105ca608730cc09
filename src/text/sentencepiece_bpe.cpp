// bpe::Model::SampleEncode() of sentencepiece (github.com/google/sentencepiece, src/bpe_model.cc)
// without its dropout. The text is first cut where no piece of the vocabulary has these two
// characters side by side: no merge reaches across, the parts are small, and most are in the cache.
#include "text/sentencepiece_bpe.hpp"

#include <algorithm>
#include <unordered_set>

#include "mora/core/error.hpp"
#include "text/piece_trie.hpp"
#include "text/sentencepiece_model.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr uint32_t kEnd = UINT32_MAX;

// What merges can make: not control, unknown and byte pieces.
bool is_ordinary(PieceType type) {
  return type == PieceType::normal || type == PieceType::user_defined || type == PieceType::unused;
}

// The heap's top is what is merged next.
bool comes_later(const SentencePieceBpe::Scratch::Candidate& a,
                 const SentencePieceBpe::Scratch::Candidate& b) {
  return a.score < b.score || (a.score == b.score && a.left > b.left);
}

}  // namespace

bool SentencePieceBpe::can_encode(const SentencePieceModel& model) {
  constexpr size_t kMaxBytes = 64;  // longer ones would take too long to look at
  std::unordered_set<std::string_view> ordinary;
  std::vector<std::string_view> unused;
  for (const VocabularyPiece& piece : model.pieces) {
    if (piece.type == PieceType::unused) unused.push_back(piece.text);
    if (is_ordinary(piece.type)) ordinary.insert(piece.text);
  }
  const auto may_stand = [&](std::string_view text) {
    return code_point_bytes(text, 0) == text.size() || ordinary.count(text) > 0;
  };
  for (const std::string_view text : unused) {
    if (text.size() > kMaxBytes) return false;
    for (size_t at = code_point_bytes(text, 0); at < text.size();
         at += code_point_bytes(text, at)) {
      if (may_stand(text.substr(0, at)) && may_stand(text.substr(at))) return false;
    }
  }
  return true;
}

SentencePieceBpe::SentencePieceBpe(const SentencePieceModel& model) : ids_(model) {
  for (const VocabularyPiece& piece : model.pieces) {
    if (!is_ordinary(piece.type)) continue;
    scores_.emplace(piece.text, piece.score);
    size_t at = 0;
    char32_t before = next_code_point(piece.text, at);
    while (at < piece.text.size()) {
      const char32_t c = next_code_point(piece.text, at);
      joints_.add(before, c);
      before = c;
    }
  }
}

void SentencePieceBpe::encode(std::string_view text, const PieceTrie& user_defined,
                              Scratch& scratch, std::vector<int32_t>& ids) const {
  size_t begin = 0;
  char32_t before = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t here = at;
    if (const size_t own = user_defined.longest(text.substr(at))) {
      append_part(text.substr(begin, here - begin), scratch, ids);
      const std::string_view piece = text.substr(here, own);
      ids_.append(ids_.of(piece), piece, 0, ids);
      at = begin = here + own;
      continue;
    }
    const char32_t c = next_code_point(text, at);
    if (here > begin && !joints_.has(before, c)) {
      append_part(text.substr(begin, here - begin), scratch, ids);
      begin = here;
    }
    before = c;
  }
  append_part(text.substr(begin), scratch, ids);
}

void SentencePieceBpe::append_part(std::string_view part, Scratch& scratch,
                                   std::vector<int32_t>& ids) const {
  if (part.empty()) return;
  const size_t before = ids.size();
  scratch.cache.append(part, ids, [&](std::string_view text, std::vector<int32_t>& out) {
    merge(text, scratch, out);
  });
  ids_.join(before, ids);
}

void SentencePieceBpe::merge(std::string_view part, Scratch& scratch,
                             std::vector<int32_t>& ids) const {
  if (part.size() >= kEnd) fail(ErrorKind::data, "a text of more than 4 GB without a place to cut");
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  symbols.clear();
  heap.clear();
  const auto candidate = [&](uint32_t left, uint32_t right) {
    const uint32_t size = symbols[left].size + symbols[right].size;
    const auto found = scores_.find(part.substr(symbols[left].begin, size));
    if (found == scores_.end()) return false;
    heap.push_back({found->second, left, right, size});
    return true;
  };
  for (size_t at = 0; at < part.size();) {
    const auto here = static_cast<uint32_t>(at);
    at += code_point_bytes(part, at);
    const auto i = static_cast<uint32_t>(symbols.size());
    const uint32_t next = at < part.size() ? i + 1 : kEnd;
    symbols.push_back({here, static_cast<uint32_t>(at - here), i == 0 ? kEnd : i - 1, next});
    if (i > 0) candidate(i - 1, i);
  }
  std::make_heap(heap.begin(), heap.end(), comes_later);
  const auto push = [&](uint32_t left, uint32_t right) {
    if (left == kEnd || right == kEnd) return;
    if (candidate(left, right)) std::push_heap(heap.begin(), heap.end(), comes_later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), comes_later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = symbols[top.left];
    Scratch::Symbol& right = symbols[top.right];
    // Its symbols are no longer these.
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;
    left.size = top.size;
    left.next = right.next;
    right.size = 0;
    if (left.next != kEnd) symbols[left.next].previous = top.left;
    push(left.previous, top.left);
    push(top.left, left.next);
  }
  const size_t begin = ids.size();
  for (uint32_t i = 0; i != kEnd; i = symbols[i].next) {
    const std::string_view piece = part.substr(symbols[i].begin, symbols[i].size);
    ids_.append(ids_.of(piece), piece, begin, ids);
  }
}

}  // namespace mora
