// PieceToId() and PopulateSentencePieceText() of the library. A text that is both an ordinary piece
// and a control, unknown or byte piece is the latter.
#include "text/sentencepiece_ids.hpp"

#include "mora/core/error.hpp"
#include "mora/io/text.hpp"
#include "text/sentencepiece_model.hpp"

namespace mora {
namespace {

bool is_reserved(PieceType type) {
  return type == PieceType::unknown || type == PieceType::control || type == PieceType::byte;
}

std::string byte_piece(int byte) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return str("<0x", kDigits[byte >> 4], kDigits[byte & 15], '>');
}

}  // namespace

SentencePieceIds::SentencePieceIds(const SentencePieceModel& model)
    : has_bytes_(model.byte_fallback) {
  for (const bool reserved : {true, false}) {  // what is there first stays
    for (size_t id = 0; id < model.pieces.size(); ++id) {
      const VocabularyPiece& piece = model.pieces[id];
      if (piece.type == PieceType::unknown) unknown_ = static_cast<int32_t>(id);
      if (is_reserved(piece.type) == reserved) ids_.emplace(piece.text, static_cast<int32_t>(id));
    }
  }
  for (const VocabularyPiece& piece : model.pieces) {
    is_control_.push_back(piece.type == PieceType::control);
  }
  for (int byte = 0; byte < 256; ++byte) bytes_[byte] = of(byte_piece(byte));
}

int32_t SentencePieceIds::of(std::string_view text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? unknown_ : found->second;
}

void SentencePieceIds::append(int32_t id, std::string_view text, size_t begin,
                              std::vector<int32_t>& ids) const {
  if (is_control_[static_cast<size_t>(id)]) {
    fail(ErrorKind::data, "the text has \"", printable(text),
         "\", which this SentencePiece model keeps for control and does not encode");
  }
  if (id != unknown_) {
    ids.push_back(id);
  } else if (has_bytes_) {
    for (const char c : text) ids.push_back(bytes_[static_cast<uint8_t>(c)]);
  } else if (ids.size() == begin || ids.back() != unknown_) {
    ids.push_back(id);
  }
}

void SentencePieceIds::join(size_t at, std::vector<int32_t>& ids) const {
  if (has_bytes_ || at == 0 || at >= ids.size()) return;
  if (ids[at - 1] == unknown_ && ids[at] == unknown_) {
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(at));
  }
}

}  // namespace mora
