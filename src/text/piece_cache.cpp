// One slot for each hash: no list to search, none to grow.
#include "text/piece_cache.hpp"

#include <algorithm>
#include <cstring>
#include <functional>

namespace mora {

uint32_t PieceCache::hash_of(std::string_view piece) {
  return static_cast<uint32_t>(std::hash<std::string_view>()(piece));
}

bool PieceCache::find(std::string_view piece, uint32_t hash, std::vector<int32_t>& ids) const {
  if (!slots_) return false;
  const Slot& slot = slots_[hash & (kSlots - 1)];
  if (slot.hash != hash || slot.bytes != piece.size() ||
      std::memcmp(slot.text.data(), piece.data(), piece.size()) != 0) {
    return false;
  }
  ids.insert(ids.end(), slot.ids.begin(), slot.ids.begin() + slot.count);
  return true;
}

void PieceCache::store(std::string_view piece, uint32_t hash, const int32_t* ids, size_t count) {
  if (count > kMaxIds) return;
  if (!slots_) slots_ = std::make_unique<Slot[]>(kSlots);
  Slot& slot = slots_[hash & (kSlots - 1)];
  slot.hash = hash;
  slot.bytes = static_cast<uint8_t>(piece.size());
  slot.count = static_cast<uint8_t>(count);
  std::memcpy(slot.text.data(), piece.data(), piece.size());
  std::copy(ids, ids + count, slot.ids.begin());
}

}  // namespace mora
