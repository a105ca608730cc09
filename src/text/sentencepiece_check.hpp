// What the SentencePiece library takes from a model without a check of its own.
#pragma once

#include <string>
#include <string_view>

namespace mora {

// Error(data), naming source, byte and problem, unless the bytes are a protocol buffer in which
// pieces are short, scores are finite, and the character map (a trie in an array, and texts) cannot
// lead the library's search out of the array or the texts.
void check_sentencepiece_model(std::string_view bytes, const std::string& source);

}  // namespace mora
