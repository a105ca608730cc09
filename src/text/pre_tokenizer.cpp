// One function per pre-tokenizer of the reference.
#include "text/pre_tokenizer.hpp"

#include <array>
#include <utility>

#include "text/unicode.hpp"

namespace mora {
namespace {

// GPT-2's expression, which ByteLevel applies by itself.
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

constexpr int kLastByteCharacter = 0x143;

// Printable bytes of Latin-1 stand for themselves, the others for U+0100 and up, in order.
struct ByteCharacters {
  std::array<char32_t, 256> of_byte{};
  std::array<int, kLastByteCharacter + 1> to_byte{};

  constexpr ByteCharacters() {
    for (int& byte : to_byte) byte = -1;
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
      const bool printable =
          (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
      const char32_t c = printable ? static_cast<char32_t>(byte) : next++;
      of_byte[byte] = c;
      to_byte[c] = byte;
    }
  }
};

constexpr ByteCharacters kByteCharacters;

std::string to_byte_level(std::string_view text) {
  std::string mapped;
  mapped.reserve(text.size() + text.size() / 4);
  for (const char c : text) {
    const char32_t wide = kByteCharacters.of_byte[static_cast<uint8_t>(c)];
    if (wide < 0x80) {
      mapped += static_cast<char>(wide);
    } else {
      append_utf8(mapped, wide);
    }
  }
  return mapped;
}

struct ByteLevel {
  bool adds_space;
  std::optional<Regex> regex;

  void operator()(Piece&& piece, const EncodeContext& context, Pieces& out) const {
    if (adds_space && !context.keeps_front(piece) && piece.text[0] != ' ') {
      piece.text.insert(0, 1, ' ');
    }
    if (!regex) {
      piece.text = to_byte_level(piece.text);
      out.push_back(std::move(piece));
      return;
    }
    size_t covered = 0;
    const auto emit = [&](size_t begin, size_t end) {
      if (begin == end) return;
      out.push_back({to_byte_level(std::string_view(piece.text).substr(begin, end - begin)),
                     piece.at_start && begin == 0});
    };
    regex->find_all(piece.text, context.regex, [&](size_t begin, size_t end) {
      emit(covered, begin);
      emit(begin, end);
      covered = end;
    });
    emit(covered, piece.text.size());
  }
};

struct Split {
  Pattern pattern;
  SplitBehavior behavior;
  bool invert;

  void operator()(Piece&& piece, const EncodeContext& context, Pieces& out) const {
    Spans spans = pattern.find(piece.text, context.regex);
    if (invert) swap_matches(spans);
    split_piece(std::move(piece), std::move(spans), behavior, out);
  }
};

struct MetaspaceSplit {
  Metaspace metaspace;

  void operator()(Piece&& piece, const EncodeContext& context, Pieces& out) const {
    const std::string& mark = metaspace.replacement;
    std::string text;
    text.reserve(piece.text.size() + piece.text.size() / 2);
    for (const char c : piece.text) {
      if (c == ' ') {
        text += mark;
      } else {
        text += c;
      }
    }
    const bool wanted = metaspace.scheme == PrependScheme::always ||
                        (metaspace.scheme == PrependScheme::first && piece.at_start);
    if (wanted && !context.keeps_front(piece) && !text.starts_with(mark)) text.insert(0, mark);
    piece.text = std::move(text);
    if (!metaspace.splits) {
      out.push_back(std::move(piece));
      return;
    }
    size_t at = 0;
    const char32_t c = next_code_point(mark, at);
    Spans spans = find_characters(piece.text, [c](char32_t other) { return other == c; });
    split_piece(std::move(piece), std::move(spans), SplitBehavior::merged_with_next, out);
  }
};

// Runs of word characters and runs of what is neither that nor white space; white space goes.
void split_words(Piece&& piece, const EncodeContext&, Pieces& out) {
  enum class Kind { none, space, word, other };
  size_t begin = 0;
  Kind run = Kind::none;
  const auto close = [&](size_t end) {
    if (run != Kind::word && run != Kind::other) return;
    out.push_back({piece.text.substr(begin, end - begin), piece.at_start && begin == 0});
  };
  for (size_t at = 0; at < piece.text.size();) {
    const size_t here = at;
    const char32_t c = next_code_point(piece.text, at);
    const Kind kind = is_word(c) ? Kind::word : is_white_space(c) ? Kind::space : Kind::other;
    if (kind == run) continue;
    close(here);
    begin = here;
    run = kind;
  }
  close(piece.text.size());
}

}  // namespace

char32_t byte_level_character(uint8_t byte) {
  return kByteCharacters.of_byte[byte];
}

int byte_of_character(char32_t c) {
  return c <= kLastByteCharacter ? kByteCharacters.to_byte[c] : -1;
}

Metaspace read_metaspace(const JsonView& json) {
  check_keys(json, {"replacement", "str_rep", "add_prefix_space", "prepend_scheme", "split"});
  Metaspace metaspace;
  append_utf8(metaspace.replacement, read_character(json.at("replacement")));
  if (json.has("prepend_scheme")) {
    const JsonView scheme = json.at("prepend_scheme");
    const std::string name = scheme.string();
    if (name != "always" && name != "first" && name != "never") {
      scheme.wrong_type("\"always\", \"first\" or \"never\"");
    }
    metaspace.scheme = name == "always"  ? PrependScheme::always
                       : name == "first" ? PrependScheme::first
                                         : PrependScheme::never;
    if (!boolean_or(json, "add_prefix_space", true) && name != "never") {
      json.wrong("add_prefix_space is false, but prepend_scheme is not \"never\"");
    }
  } else if (!boolean_or(json, "add_prefix_space", true)) {
    metaspace.scheme = PrependScheme::never;
  }
  metaspace.splits = boolean_or(json, "split", true);
  return metaspace;
}

PreTokenizer::PreTokenizer(const JsonView& json) {
  for (const JsonView& component : flattened(json, "pretokenizers")) {
    steps_.push_back(read_step(component));
  }
}

PreTokenizer::Step PreTokenizer::read_step(const JsonView& json) {
  const std::string type = component_type(json);
  if (type == "ByteLevel") {
    check_keys(json, {"add_prefix_space", "trim_offsets", "use_regex"});
    boolean_or(json, "trim_offsets", true);  // of no meaning for ids, but of a type
    return ByteLevel{json.at("add_prefix_space").boolean(), boolean_or(json, "use_regex", true)
                                                                ? std::optional(Regex(kGpt2))
                                                                : std::nullopt};
  }
  if (type == "Split") {
    check_keys(json, {"pattern", "behavior", "invert"});
    return Split{Pattern(json.at("pattern")), read_split_behavior(json.at("behavior")),
                 json.at("invert").boolean()};
  }
  if (type == "Metaspace") return MetaspaceSplit{read_metaspace(json)};
  if (type == "Digits") {
    check_keys(json, {"individual_digits"});
    const auto behavior = json.at("individual_digits").boolean() ? SplitBehavior::isolated
                                                                 : SplitBehavior::contiguous;
    return [behavior](Piece&& piece, const EncodeContext&, Pieces& out) {
      Spans spans = find_characters(piece.text, is_numeric);
      split_piece(std::move(piece), std::move(spans), behavior, out);
    };
  }
  if (type == "Punctuation") {
    check_keys(json, {"behavior"});
    const auto behavior =
        json.has("behavior") ? read_split_behavior(json.at("behavior")) : SplitBehavior::isolated;
    return [behavior](Piece&& piece, const EncodeContext&, Pieces& out) {
      Spans spans = find_characters(piece.text, is_punctuation);
      split_piece(std::move(piece), std::move(spans), behavior, out);
    };
  }
  if (type == "WhitespaceSplit") {
    check_keys(json, {});
    return [](Piece&& piece, const EncodeContext&, Pieces& out) {
      Spans spans = find_characters(piece.text, is_white_space);
      split_piece(std::move(piece), std::move(spans), SplitBehavior::removed, out);
    };
  }
  if (type == "Whitespace") {
    check_keys(json, {});
    return split_words;
  }
  refuse_type(json, "pre-tokenizer",
              "ByteLevel, Split, Digits, Punctuation, Whitespace, WhitespaceSplit, Metaspace and "
              "Sequence");
}

void PreTokenizer::apply(Pieces& pieces, const EncodeContext& context) const {
  for (const Step& step : steps_) {
    Pieces split;
    split.reserve(pieces.size());
    for (Piece& piece : pieces) {
      if (piece.id) {
        split.push_back(std::move(piece));
      } else {
        step(std::move(piece), context, split);
      }
    }
    pieces = std::move(split);
  }
}

}  // namespace mora
