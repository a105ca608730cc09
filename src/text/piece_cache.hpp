// The ids of short pieces of text that were encoded before.
//
// Invariant: its size is fixed (2 MB once it is used); a new piece takes an old one's place.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace mora {

class PieceCache {
 public:
  static constexpr size_t kMaxBytes = 26;
  static constexpr size_t kMaxIds = 8;

  // Appends the ids of `piece`, which `encode(piece, ids)` appends if they are not remembered.
  template <class Encode>
  void append(std::string_view piece, std::vector<int32_t>& ids, const Encode& encode) {
    if (piece.empty() || piece.size() > kMaxBytes) return encode(piece, ids);
    const uint32_t hash = hash_of(piece);
    if (find(piece, hash, ids)) return;
    const size_t before = ids.size();
    encode(piece, ids);
    store(piece, hash, ids.data() + before, ids.size() - before);
  }

 private:
  static constexpr size_t kSlots = size_t{1} << 15;

  struct Slot {
    uint32_t hash = 0;
    uint8_t bytes = 0;  // 0: free
    uint8_t count = 0;
    std::array<char, kMaxBytes> text;
    std::array<int32_t, kMaxIds> ids;
  };

  static uint32_t hash_of(std::string_view piece);
  bool find(std::string_view piece, uint32_t hash, std::vector<int32_t>& ids) const;
  void store(std::string_view piece, uint32_t hash, const int32_t* ids, size_t count);

  std::unique_ptr<Slot[]> slots_;
};

}  // namespace mora
