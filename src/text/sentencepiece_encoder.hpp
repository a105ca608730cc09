// Text to ids by a SentencePiece model, without the library.
//
// Invariant: the ids are those of the library's Encode(); all members may be called from several
// threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/position.hpp"

namespace mora {

struct SentencePieceModel;

class SentencePieceEncoder {
 public:
  virtual ~SentencePieceEncoder() = default;

  // Bytes that are not UTF-8 are U+FFFD each.
  virtual std::vector<int32_t> encode(std::string_view text, Position position) const = 0;
};

// Error(data), beginning with `what`, for a character map that the library must not see.
void check_character_maps(const SentencePieceModel& model, const std::string& what);

// Of a model that the library has loaded. Nothing for what only the library encodes: models of
// words or of characters, and BPE with unused pieces that merges can make.
std::unique_ptr<SentencePieceEncoder> make_sentencepiece_encoder(const SentencePieceModel& model,
                                                                 const std::string& what);

}  // namespace mora
