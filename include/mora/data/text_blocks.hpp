// Plain text for pretraining: documents joined into one stream of tokens and cut into blocks of
// equal length.
//
// Invariant: the tokens depend on the files, their order and the tokenizer, never on the number of
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "mora/data/row_layouts.hpp"
#include "mora/data/token_cache.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora {

enum class TextUnit { file, line };

// Rows (.jsonl, .json) hold a document each: UTF-8 text in `field`, or without that token ids in
// `input_ids`, with `labels` and `attention_mask` (docs/data.md). A text file (.txt) is one
// document, or one a line. All of them also with .gz.
struct TextFiles {
  std::vector<std::filesystem::path> files;
  std::string field = "text";
  TextUnit unit = TextUnit::file;  // of .txt
  BadRows bad_rows = BadRows::error;
  int32_t vocab_size = 0;  // token ids are below
};

struct Document {
  std::string text;
  Example tokenized;  // or the row's own tokens, where text is empty
};

// Calls document(d) for each that is not empty, file by file. Lines of .txt files end in "\n",
// whatever they ended in. Another kind of file is Error(usage); text that is not UTF-8, or a row
// without the field, is Error(data) with file, line and column, or that document is skipped and
// counted.
RowCounts read_documents(const TextFiles& source,
                         const std::function<void(Document document)>& document);

// The pieces in which a document is encoded, in their order: each of at least 4 KiB (the last may
// be shorter) and cut only in front of a line break behind an ASCII letter or digit, where no token
// crosses.
std::vector<std::string_view> split_document(std::string_view text);

enum class AddBos { automatic, always, never };  // automatic: where the tokenizer adds it

struct DocumentTokens {
  TokenData documents;  // a sequence each
  RowCounts rows;
  std::string origin;  // a line for people, as CachedTokens has it
};

// Of each text: BOS as add_bos says, its tokens, EOS where the tokenizer has one. Rows of token ids
// are taken as they are.
DocumentTokens tokenize_documents(const Tokenizer& tokenizer, const TextFiles& source,
                                  AddBos add_bos, const TokenCache& cache = {});

enum class DocumentAttention { across, within };

// Blocks of exactly block_size tokens of the joined documents, one after the other; what remains at
// the end is dropped. Across: a block is one sequence, and every token but its first is predicted.
// Within: each document's part of a block is a segment of its own with positions from 0, and a
// document's first token is not predicted from what stands before it.
class TextBlocks {
 public:
  TextBlocks() = default;  // none
  // block_size >= 2: a token to read and one to predict.
  TextBlocks(TokenData documents, int64_t block_size, DocumentAttention attention);

  int64_t size() const { return count_; }
  ExampleView operator[](int64_t block) const;
  int64_t dropped_tokens() const { return documents_.tokens() - count_ * block_size_; }
  const TokenData& documents() const { return documents_; }

 private:
  TokenData documents_;
  int64_t block_size_ = 0;
  DocumentAttention attention_ = DocumentAttention::across;
  int64_t count_ = 0;
};

}  // namespace mora
