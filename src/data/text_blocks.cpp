// Tokenising documents in parallel. Documents are collected to a few megabytes, all their pieces
// are encoded at once, and the results are joined in order; a piece's tokens depend on the piece
// only.
#include "mora/data/text_blocks.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "data/json_lines.hpp"
#include "data/notes.hpp"
#include "data/tokenized_rows.hpp"
#include "mora/core/error.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/file.hpp"
#include "mora/io/text.hpp"

namespace mora {
namespace {

constexpr size_t kPieceBytes = 4096;
constexpr size_t kBatchBytes = size_t{8} << 20;  // enough pieces to keep any number of threads busy

// Calls text(string) for the file, or for each line that is not empty.
void read_text_file(const std::filesystem::path& path, TextUnit unit, const BadRow& bad,
                    const std::function<void(std::string)>& text) {
  std::string document;
  bool broken = false;  // the file, where it is one document
  const auto add_line = [&](int64_t number, std::string_view line) {
    if (const size_t valid = valid_utf8_bytes(line); valid < line.size()) {
      broken = unit == TextUnit::file;
      fail(ErrorKind::data, path.string(), ":", number, ":", valid + 1, ": not UTF-8 text");
    }
    document += line;
    if (unit == TextUnit::file) {
      document += '\n';
    } else if (!document.empty()) {
      text(std::exchange(document, {}));
    }
  };
  read_lines(path, [&](int64_t number, std::string_view line) {
    if (!broken) guard_row(bad, [&] { add_line(number, line); });
  });
  if (!broken && !document.empty()) text(std::move(document));
}

class Collector {
 public:
  Collector(const Tokenizer& tokenizer, AddBos add_bos, TokenWriter& out)
      : tokenizer_(tokenizer), out_(out) {
    if (add_bos == AddBos::always || (add_bos == AddBos::automatic && tokenizer.adds_bos()))
      bos_ = tokenizer.bos();
  }

  void add(Document document) {
    bytes_ += document.text.size() + document.tokenized.tokens.size() * sizeof(int32_t);
    documents_.push_back(std::move(document));
    if (bytes_ >= kBatchBytes) encode();
  }
  void finish() { encode(); }

 private:
  enum class Place { first, later };
  struct Piece {
    std::string_view text;
    Place place;
    std::vector<int32_t> tokens;
  };

  void encode() {
    std::vector<Piece> pieces;
    for (const Document& document : documents_) {
      Place place = Place::first;
      for (const std::string_view text : split_document(document.text)) {
        pieces.push_back({text, place, {}});
        place = Place::later;
      }
    }
    parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
      Piece& piece = pieces[static_cast<size_t>(i)];
      piece.tokens = piece.place == Place::first ? tokenizer_.encode(piece.text)
                                                 : tokenizer_.encode_continuation(piece.text);
    });
    auto piece = pieces.begin();
    for (const Document& document : documents_) {
      if (document.text.empty()) {
        out_.append(document.tokenized.tokens, document.tokenized.weights);
        continue;
      }
      tokens_.clear();
      if (bos_) tokens_.push_back(*bos_);
      do {
        tokens_.insert(tokens_.end(), piece->tokens.begin(), piece->tokens.end());
        ++piece;
      } while (piece != pieces.end() && piece->place == Place::later);
      if (const auto eos = tokenizer_.eos()) tokens_.push_back(*eos);
      if (!tokens_.empty()) out_.append(tokens_);
    }
    documents_.clear();
    bytes_ = 0;
  }

  const Tokenizer& tokenizer_;
  TokenWriter& out_;
  std::optional<int32_t> bos_;
  std::vector<Document> documents_;
  size_t bytes_ = 0;             // of documents_
  std::vector<int32_t> tokens_;  // of one document
};

Document read_row(const JsonView& row, const TextFiles& source) {
  if (row.has(source.field) || !row.has("input_ids"))
    return {.text = row.at(source.field).string(), .tokenized = {}};
  const auto optional = [&](const char* key) {
    return row.has(key) ? std::optional(row.at(key)) : std::nullopt;
  };
  return {.text = "",
          .tokenized = read_tokenized({.input_ids = row.at("input_ids"),
                                       .labels = optional("labels"),
                                       .attention_mask = optional("attention_mask")},
                                      source.vocab_size)};
}

std::string key_of(const Tokenizer& tokenizer, const TextFiles& source, AddBos add_bos,
                   const TokenCache& cache) {
  TokenKey key("documents", cache.tokenizer, tokenizer);
  key.add("pieces", "behind words");  // other cuts gave other tokens
  key.add("text_field", source.field);
  key.add("txt_documents", source.unit == TextUnit::line ? "line" : "file");
  key.add("bad_rows", source.bad_rows == BadRows::skip ? "skip" : "error");
  key.add("add_bos", str(static_cast<int>(add_bos)));
  key.add_files(source.files);
  return key.hex();
}

}  // namespace

RowCounts read_documents(const TextFiles& source, const std::function<void(Document)>& document) {
  RowCounts counts;
  const BadRow skip = [&](const Error& problem) {
    if (counts.skipped++ == 0) counts.first_problem = problem.what();
  };
  const BadRow bad = source.bad_rows == BadRows::skip ? skip : BadRow();
  const auto take = [&](Document d) {
    ++counts.read;
    if (!d.text.empty() || !d.tokenized.tokens.empty()) document(std::move(d));
  };
  for (const auto& path : source.files) {
    const std::string name = path.string();
    if (!name.ends_with(".txt") && !name.ends_with(".txt.gz")) {
      read_json_rows(
          path, [&](const JsonView& row) { take(read_row(row, source)); }, bad);
      continue;
    }
    read_text_file(path, source.unit, bad,
                   [&](std::string text) { take({.text = std::move(text), .tokenized = {}}); });
  }
  return counts;
}

std::vector<std::string_view> split_document(std::string_view text) {
  const auto is_word = [](char c) {
    return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9');
  };
  std::vector<std::string_view> pieces;
  while (!text.empty()) {
    // In front of a line break, not behind it: some models turn a line break into a space, and
    // would lose it at the end of a piece. Behind a letter or digit, because a line break may be
    // one token with white space (GPT-2's family) or punctuation (Llama 3's) in front of it.
    size_t cut = text.find('\n', kPieceBytes);
    while (cut != text.npos && !is_word(text[cut - 1])) cut = text.find('\n', cut + 1);
    pieces.push_back(text.substr(0, cut));
    text.remove_prefix(pieces.back().size());
  }
  return pieces;
}

DocumentTokens tokenize_documents(const Tokenizer& tokenizer, const TextFiles& source,
                                  AddBos add_bos, const TokenCache& cache) {
  const std::string key = cache.folder.empty() ? "" : key_of(tokenizer, source, add_bos, cache);
  const std::string notes = "the notes of the token cache";
  CachedTokens tokens =
      cached_tokens(cache.folder, key, tokenizer.vocab_size(), [&](TokenWriter& out) {
        Collector collector(tokenizer, add_bos, out);
        const RowCounts rows =
            read_documents(source, [&](Document d) { collector.add(std::move(d)); });
        collector.finish();
        return dump_json(rows_note(rows, source.files));
      });
  const Json json = parse_json(tokens.notes, notes);
  return {std::move(tokens.data), noted_rows(JsonView(json, notes), source.files),
          std::move(tokens.origin)};
}

TextBlocks::TextBlocks(TokenData documents, int64_t block_size, DocumentAttention attention)
    : documents_(std::move(documents)), block_size_(block_size), attention_(attention) {
  ensure(block_size >= 2, "blocks of ", block_size, " token(s)");
  count_ = documents_.tokens() / block_size;
}

ExampleView TextBlocks::operator[](int64_t block) const {
  ensure(block >= 0 && block < count_, "block ", block, " of ", count_);
  const int64_t begin = block * block_size_;
  ExampleView view = documents_.range(begin, block_size_);
  if (attention_ == DocumentAttention::across) return view;
  const auto ends = documents_.ends();
  const auto first = std::ranges::upper_bound(ends, static_cast<uint64_t>(begin));
  const auto last = std::lower_bound(first, ends.end(), static_cast<uint64_t>(begin + block_size_));
  view.cuts = {first, last};
  return view;
}

}  // namespace mora
