// Byte-pair encoding: vocabulary, merges, and the ids of one piece of text.
//
// Invariant: encoding a piece of n characters takes O(n log n) time, whatever the piece and the
// merges are. The model is immutable; what encoding remembers lies in the caller's PieceCache.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/component.hpp"
#include "text/joints.hpp"
#include "text/piece_cache.hpp"

namespace mora {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

class BpeModel {
 public:
  // The "model" of a tokenizer.json. Error(data) where it is another type than BPE, uses dropout or
  // affixes, has an id twice, or a merge of unknown tokens.
  explicit BpeModel(const JsonView& json);

  // Appends the ids of a piece of valid UTF-8.
  void encode(std::string_view piece, PieceCache& cache, std::vector<int32_t>& ids) const;

  const Vocabulary& vocabulary() const { return vocabulary_; }

 private:
  struct Merge {
    uint64_t pair = 0;  // left << 32 | right
    uint32_t rank = 0;
  };

  void read_vocabulary(const JsonView& json);
  void read_merges(const JsonView& json);
  void add_merge(const JsonView& json, std::string_view left, std::string_view right);
  void build_merge_table(const std::vector<uint64_t>& pairs);
  int32_t known(const JsonView& json, std::string_view token) const;

  std::optional<uint32_t> rank_of(int32_t left, int32_t right) const;
  int32_t symbol_of(std::string_view character) const;  // -1 if the vocabulary lacks it
  void encode_uncut(std::string_view piece, PieceCache& cache, std::vector<int32_t>& ids) const;
  void merge(std::string_view piece, std::vector<int32_t>& ids) const;
  std::vector<int32_t> symbols(std::string_view piece) const;

  Vocabulary vocabulary_;
  size_t longest_ = 0;                        // token, in bytes
  std::array<int32_t, 0x800> short_symbols_;  // of characters of one or two bytes
  std::array<int32_t, 256> byte_symbols_;     // <0x00> ... <0xFF>
  std::optional<int32_t> unknown_;
  bool fuses_unknown_ = false;
  bool byte_fallback_ = false;
  bool ignores_merges_ = false;
  std::vector<uint64_t> pairs_;     // by rank, while reading
  std::vector<int32_t> merged_;     // by rank
  std::vector<Merge> merge_table_;  // open addressing, a power of two
  bool cuts_ = true;                // whether pieces may be cut where no merge reaches across
  Joints joints_;
};

}  // namespace mora
