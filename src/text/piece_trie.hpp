// A trie of texts with ids: all the texts that begin at a place, in one walk.
//
// Invariant: immutable; nodes are numbered level by level, so that the children of a node stand
// side by side and a node costs 9 bytes.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

namespace mora {

class PieceTrie {
 public:
  static constexpr uint32_t kRoot = 0, kNowhere = UINT32_MAX;

  PieceTrie() = default;

  // Texts that are not empty and differ, with ids >= 0.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> texts);

  bool empty() const { return labels_.empty(); }

  // The node behind one more byte, or kNowhere.
  uint32_t next(uint32_t node, char byte) const {
    const uint32_t begin = children_[node], end = children_[node + 1];
    if (begin == end) return kNowhere;
    const char* labels = labels_.data();
    const void* found = std::memchr(labels + begin, static_cast<uint8_t>(byte), end - begin);
    if (found == nullptr) return kNowhere;
    return static_cast<uint32_t>(static_cast<const char*>(found) - labels);
  }

  // The id of the text that ends at the node, or -1.
  int32_t id(uint32_t node) const { return ids_[node]; }

  // The bytes of the longest text that `rest` begins with, or 0.
  size_t longest(std::string_view rest) const;

 private:
  std::vector<uint32_t> children_;  // node i has the children [children_[i], children_[i + 1])
  std::vector<char> labels_;        // of a node: the byte that leads to it
  std::vector<int32_t> ids_;
};

}  // namespace mora
