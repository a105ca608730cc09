// From the pieces that a text was cut into to ids, as the sentencepiece library does it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace mora {

struct SentencePieceModel;

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
};

class SentencePieceIds {
 public:
  // A model as the library takes it: no text twice, one unknown piece, all bytes or none.
  explicit SentencePieceIds(const SentencePieceModel& model);

  // The id of a piece's text; the unknown piece's if there is none.
  int32_t of(std::string_view text) const;

  // Appends a piece of the part of a text whose ids begin at `begin`. An unknown piece is its bytes
  // if the model has them, else one with the unknown one before it. Error(data) for a control
  // piece: the library refuses texts in which a character is one.
  void append(int32_t id, std::string_view text, size_t begin, std::vector<int32_t>& ids) const;

  // Makes one of the unknown pieces on both sides of `at`, where two parts of a text meet.
  void join(size_t at, std::vector<int32_t>& ids) const;

  int32_t unknown() const { return unknown_; }

 private:
  std::unordered_map<std::string, int32_t, TextHash, std::equal_to<>> ids_;
  std::vector<bool> is_control_;  // by id
  std::array<int32_t, 256> bytes_{};
  bool has_bytes_;
  int32_t unknown_ = 0;
};

}  // namespace mora
