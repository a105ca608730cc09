// A window of tokens slides along: decoding needs what stands before, but not from the beginning.
#include "apps/text_stream.hpp"

#include <algorithm>

namespace mora::apps {

namespace {

constexpr size_t kContext = 8;   // tokens of the prompt that decide how the first one is written
constexpr size_t kLongest = 16;  // tokens that are waited for to complete a character

// Whether the text ends in a character that further tokens may complete: decoders write U+FFFD, or
// the bytes that they have.
bool is_incomplete(std::string_view text) {
  if (text.ends_with("\uFFFD")) return true;
  for (size_t n = 1; n <= std::min<size_t>(3, text.size()); ++n) {
    const auto byte = static_cast<uint8_t>(text[text.size() - n]);
    if (byte >= 0xC0) return n < (byte >= 0xF0 ? 4u : byte >= 0xE0 ? 3u : 2u);
    if (byte < 0x80) return false;
  }
  return false;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, std::vector<std::string> stops,
                       std::span<const int32_t> before)
    : tokenizer_(tokenizer), stops_(std::move(stops)) {
  const auto context = before.last(std::min(kContext, before.size()));
  tokens_.assign(context.begin(), context.end());
  read_ = tokens_.size();
  context_ = tokenizer_.decode(tokens_);
}

bool TextStream::push(int32_t token) {
  tokens_.push_back(token);
  decode_new();
  return stopped_;
}

void TextStream::finish() {
  finished_ = true;
  if (!stopped_) decode_new();
}

// Decodes with the tokens before, whose text is taken off again: the cost of a token does not grow
// with the text.
void TextStream::decode_new() {
  if (read_ == tokens_.size()) return;
  const std::string all = tokenizer_.decode(std::span(tokens_).subspan(begin_));
  const bool wait = !finished_ && tokens_.size() - read_ < kLongest;
  if (wait && (is_incomplete(all) || !all.starts_with(context_))) return;
  const auto differ = std::ranges::mismatch(all, context_).in1;
  const size_t old = text_.size();
  text_.append(differ, all.end());
  begin_ = read_;
  read_ = tokens_.size();
  context_ = tokenizer_.decode(std::span(tokens_).subspan(begin_));
  look_for_stops(old);
}

void TextStream::look_for_stops(size_t from) {
  size_t at = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t back = std::min(from, stop.size() - 1);
    at = std::min(at, text_.find(stop, from - back));
  }
  if (at == std::string::npos) return;
  text_.resize(at);
  stopped_ = true;
}

// The length of the longest end of the text with which a stop string begins.
size_t TextStream::held_back() const {
  if (stopped_ || finished_) return 0;
  size_t longest = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, text_.size()); n > longest; --n) {
      if (std::string_view(text_).ends_with(std::string_view(stop).substr(0, n))) longest = n;
    }
  }
  return longest;
}

std::string_view TextStream::take() {
  const size_t end = std::max(taken_, text_.size() - held_back());
  const std::string_view fresh = std::string_view(text_).substr(taken_, end - taken_);
  taken_ = end;
  return fresh;
}

}  // namespace mora::apps
