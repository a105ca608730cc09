// Tokenising documents in parallel. Documents are collected to a few megabytes, all their pieces
// are encoded at once, and the results are joined in order; a piece's tokens depend on the piece
// only.
#include "mora/data/text_blocks.hpp"

#include "data/json_lines.hpp"
#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {
namespace {

constexpr size_t kPieceBytes = 4096;
constexpr size_t kBatchBytes = size_t{8} << 20;  // enough pieces to keep any number of threads busy

void read_text_file(const std::filesystem::path& path,
                    const std::function<void(std::string)>& document) {
  std::string text;
  read_lines(path, [&](int64_t number, std::string_view line) {
    if (!is_valid_utf8(line)) fail(ErrorKind::data, path.string(), ":", number, ": not UTF-8 text");
    text += line;
    text += '\n';
  });
  if (!text.empty()) document(std::move(text));
}

class Collector {
 public:
  explicit Collector(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add(std::string document) {
    bytes_ += document.size();
    documents_.push_back(std::move(document));
    if (bytes_ >= kBatchBytes) encode();
  }

  std::vector<int32_t> finish() {
    encode();
    return std::move(tokens_);
  }

 private:
  enum class Place { first, later };
  struct Piece {
    std::string_view text;
    Place place;
    std::vector<int32_t> tokens;
  };

  void encode() {
    std::vector<Piece> pieces;
    for (const std::string& document : documents_) {
      Place place = Place::first;
      for (const std::string_view text : split_document(document)) {
        pieces.push_back({text, place, {}});
        place = Place::later;
      }
    }
    parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
      Piece& piece = pieces[static_cast<size_t>(i)];
      piece.tokens = piece.place == Place::first ? tokenizer_.encode(piece.text)
                                                 : tokenizer_.encode_continuation(piece.text);
    });
    for (size_t i = 0; i < pieces.size(); ++i) {
      const Piece& piece = pieces[i];
      if (piece.place == Place::first) append(tokenizer_.bos());
      tokens_.insert(tokens_.end(), piece.tokens.begin(), piece.tokens.end());
      const bool last = i + 1 == pieces.size() || pieces[i + 1].place == Place::first;
      if (last) append(tokenizer_.eos());
    }
    documents_.clear();
    bytes_ = 0;
  }

  void append(std::optional<int32_t> token) {
    if (token) tokens_.push_back(*token);
  }

  const Tokenizer& tokenizer_;
  std::vector<std::string> documents_;
  size_t bytes_ = 0;  // of documents_
  std::vector<int32_t> tokens_;
};

}  // namespace

void read_documents(const TextFiles& source,
                    const std::function<void(std::string document)>& document) {
  for (const auto& path : source.files) {
    const std::string name = path.string();
    if (name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")) {
      read_json_lines(path, [&](const JsonView& row) {
        std::string text = row.at(source.field).string();
        if (!text.empty()) document(std::move(text));
      });
    } else if (name.ends_with(".txt") || name.ends_with(".txt.gz")) {
      read_text_file(path, document);
    } else {
      fail(ErrorKind::usage, name,
           ": not a text file by its name; expected .jsonl, .jsonl.gz, .txt or .txt.gz");
    }
  }
}

std::vector<std::string_view> split_document(std::string_view text) {
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    // In front of a line break, not behind it: some models turn a line break into a space, and
    // would lose it at the end of a piece. In front of the first of several, because those may be
    // one token together.
    size_t cut = text.find('\n', kPieceBytes);
    while (cut != text.npos && text[cut - 1] == '\n') cut = text.find('\n', cut + 1);
    pieces.push_back(text.substr(0, cut));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

std::vector<int32_t> tokenize_documents(const Tokenizer& tokenizer, const TextFiles& source) {
  Collector collector(tokenizer);
  read_documents(source, [&](std::string document) { collector.add(std::move(document)); });
  return collector.finish();
}

TextBlocks::TextBlocks(std::vector<int32_t> tokens, int64_t block_size)
    : tokens_(std::move(tokens)), block_size_(block_size) {
  ensure(block_size >= 2, "blocks of ", block_size, " token(s)");
  count_ = static_cast<int64_t>(tokens_.size()) / block_size;
}

std::span<const int32_t> TextBlocks::tokens(int64_t block) const {
  ensure(block >= 0 && block < count_, "block ", block, " of ", count_);
  return std::span(tokens_).subspan(static_cast<size_t>(block * block_size_),
                                    static_cast<size_t>(block_size_));
}

Example TextBlocks::block(int64_t block) const {
  const auto slice = tokens(block);
  Example example{{slice.begin(), slice.end()}, std::vector<float>(slice.size(), 1.0f)};
  example.weights[0] = 0;
  return example;
}

TextBlocks read_text_blocks(const Tokenizer& tokenizer, const TextFiles& source,
                            int64_t block_size) {
  std::vector<int32_t> tokens = tokenize_documents(tokenizer, source);
  const size_t found = tokens.size();
  TextBlocks blocks(std::move(tokens), block_size);
  if (blocks.count() == 0) {
    fail(ErrorKind::data, source.files.empty() ? "no files" : source.files.front().string(),
         source.files.size() > 1 ? " and the other text files" : "", ": ", found,
         " tokens, fewer than one block of ", block_size, "; give more text or a smaller block");
  }
  return blocks;
}

}  // namespace mora
