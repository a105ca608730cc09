// TextStream: the text of tokens as they come. What it gives out never changes later: incomplete
// characters are held back, and so is what may be the beginning of a stop string.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/text/tokenizer.hpp"

namespace mora::apps {

class TextStream {
 public:
  // `before`: the tokens that the text follows, so that a first word keeps its space; empty for a
  // text of its own. Stop strings are not empty.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops,
             std::span<const int32_t> before);

  bool push(int32_t token);  // true when a stop string is complete: the text ends before it
  void finish();             // no token follows: nothing is held back any more

  const std::string& text() const { return text_; }
  bool stopped() const { return stopped_; }
  std::string_view take();  // what can be shown and was not yet taken; valid until the next call

 private:
  void decode_new();
  void look_for_stops(size_t from);
  size_t held_back() const;

  const Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  std::vector<int32_t> tokens_;
  size_t begin_ = 0, read_;  // tokens [begin, read) are context whose text is context_
  std::string context_, text_;
  size_t taken_ = 0;
  bool stopped_ = false, finished_ = false;
};

}  // namespace mora::apps
