// The decoder of a tokenizer.json: from tokens as the vocabulary writes them to text.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "text/component.hpp"
#include "text/pieces.hpp"

namespace mora {

class Decoder {
 public:
  Decoder() = default;  // tokens with a space between them, as the reference does without a decoder

  // ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence; others are Error(data).
  explicit Decoder(const JsonView& json);

  // Valid UTF-8.
  std::string decode(std::vector<std::string> tokens, RegexScratch& scratch) const;

 private:
  using Step = std::function<std::vector<std::string>(std::vector<std::string>, RegexScratch&)>;

  static Step read_step(const JsonView& json);

  std::vector<Step> steps_;
  bool joins_with_space_ = true;
};

}  // namespace mora
