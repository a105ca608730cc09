// Plain text for pretraining: documents joined into one stream of tokens and cut into blocks of
// equal length.
//
// Invariant: the tokens depend on the files, their order and the tokenizer, never on the number of
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/data/example.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

// By the end of its name a file is one document a line (.jsonl, .jsonl.gz; UTF-8 text in `field`)
// or one document as a whole (.txt, .txt.gz).
struct TextFiles {
  std::vector<std::filesystem::path> files;
  std::string field = "text";
};

// Calls document(text) for each document that is not empty, file by file. Lines of .txt files end
// in
// "\n", whatever they ended in. Another kind of file is Error(usage); text that is not UTF-8, or a
// line without the field, is Error(data) with file and line.
void read_documents(const TextFiles& source,
                    const std::function<void(std::string document)>& document);

// The pieces in which a document is encoded, in their order: each of at least 4 KiB (the last may
// be shorter) and cut only in front of a line break, where no token crosses.
std::vector<std::string_view> split_document(std::string_view text);

// BOS, the document's tokens, EOS (each where the tokenizer has it), document after document.
std::vector<int32_t> tokenize_documents(const Tokenizer& tokenizer, const TextFiles& source);

// Blocks of exactly block_size tokens, one after the other; what remains at the end is dropped.
class TextBlocks {
 public:
  // block_size >= 2: a token to read and one to predict.
  TextBlocks(std::vector<int32_t> tokens, int64_t block_size);

  int64_t count() const { return count_; }
  int64_t block_size() const { return block_size_; }
  std::span<const int32_t> tokens(int64_t block) const;  // 0 <= block < count()
  Example block(int64_t block) const;                    // every token but the first has weight 1

 private:
  std::vector<int32_t> tokens_;
  int64_t block_size_;
  int64_t count_;
};

// All of the above. Fewer tokens than one block is Error(data).
TextBlocks read_text_blocks(const Tokenizer& tokenizer, const TextFiles& source,
                            int64_t block_size);

}  // namespace mora
