// The normaliser of a tokenizer.json: what happens to the text before anything else looks at it.
//
// Invariant: what comes out is valid UTF-8 and not larger than a fixed multiple of what went in.
#pragma once

#include <functional>
#include <vector>

#include "text/component.hpp"
#include "text/pieces.hpp"

namespace mora {

class Normalizer {
 public:
  Normalizer() = default;  // changes nothing

  // NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace, Sequence; others are Error(data).
  explicit Normalizer(const JsonView& json);

  // May leave the piece empty. Error(data) where the text would grow out of all proportion.
  void apply(Piece& piece, const EncodeContext& context) const;

 private:
  using Step = std::function<void(Piece&, const EncodeContext&)>;

  static Step read_step(const JsonView& json);

  std::vector<Step> steps_;
};

}  // namespace mora
