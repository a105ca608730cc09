// One function per normaliser of the reference. `at_start` follows what the reference's alignment
// of normalised and original text says about the first character.
#include "text/normalizer.hpp"

#include <algorithm>

#include "text/unicode.hpp"

namespace mora {
namespace {

constexpr size_t kMaxGrowth = 64;  // NFKD makes at most 11 bytes of one
constexpr size_t kMaxGrowthBytes = size_t{1} << 20;

enum class Sides { none, left, right, both };

void strip(Piece& piece, Sides sides) {
  std::string& text = piece.text;
  size_t begin = 0;
  size_t end = text.size();
  if (sides == Sides::left || sides == Sides::both) {
    for (size_t at = 0; at < end && is_white_space(next_code_point(text, at));) begin = at;
  }
  if (sides == Sides::right || sides == Sides::both) {
    while (end > begin) {
      const size_t previous = previous_code_point(text, end);
      size_t at = previous;
      if (!is_white_space(next_code_point(text, at))) break;
      end = previous;
    }
  }
  if (begin > 0) piece.at_start = false;
  text = text.substr(begin, end - begin);
}

Sides read_sides(const JsonView& json) {
  check_keys(json, {"strip_left", "strip_right"});
  const bool left = json.at("strip_left").boolean();
  const bool right = json.at("strip_right").boolean();
  return left ? (right ? Sides::both : Sides::left) : (right ? Sides::right : Sides::none);
}

void replace(Piece& piece, const Pattern& pattern, const std::string& content,
             RegexScratch& scratch) {
  const Spans spans = pattern.find(piece.text, scratch);
  if (std::none_of(spans.begin(), spans.end(), [](const Span& s) { return s.is_match; })) return;
  std::string replaced;
  for (const Span& span : spans) {
    if (span.is_match) {
      replaced += content;
    } else {
      replaced.append(piece.text, span.begin, span.end - span.begin);
    }
  }
  // The content stands where the last replaced character stood.
  const Span& first = spans.front();
  if (first.is_match && first.begin != first.end &&
      (content.empty() || code_point_bytes(piece.text, 0) != first.end)) {
    piece.at_start = false;
  }
  piece.text = std::move(replaced);
}

}  // namespace

Normalizer::Normalizer(const JsonView& json) {
  for (const JsonView& component : flattened(json, "normalizers")) {
    steps_.push_back(read_step(component));
  }
}

Normalizer::Step Normalizer::read_step(const JsonView& json) {
  const std::string type = component_type(json);
  for (const auto& [name, form] : {std::pair("NFC", NormalForm::nfc),
                                   {"NFD", NormalForm::nfd},
                                   {"NFKC", NormalForm::nfkc},
                                   {"NFKD", NormalForm::nfkd}}) {
    if (type != name) continue;
    check_keys(json, {});
    return [wanted = form](Piece& piece, const EncodeContext&) {
      piece.text = normal_form(wanted, piece.text);
    };
  }
  if (type == "Lowercase") {
    check_keys(json, {});
    return [](Piece& piece, const EncodeContext&) { piece.text = to_lower_case(piece.text); };
  }
  if (type == "Strip") {
    return [sides = read_sides(json)](Piece& piece, const EncodeContext& context) {
      const bool keeps = context.keeps_front(piece) && sides != Sides::none;
      strip(piece, !keeps ? sides : sides == Sides::left ? Sides::none : Sides::right);
    };
  }
  if (type == "Prepend") {
    check_keys(json, {"prepend"});
    return [prefix = json.at("prepend").string()](Piece& piece, const EncodeContext& context) {
      if (!piece.text.empty() && !context.keeps_front(piece)) piece.text.insert(0, prefix);
    };
  }
  if (type == "Replace") {
    check_keys(json, {"pattern", "content"});
    return [pattern = Pattern(json.at("pattern")), content = json.at("content").string()](
               Piece& piece, const EncodeContext& context) {
      replace(piece, pattern, content, context.regex);
    };
  }
  refuse_type(json, "normaliser",
              "NFC, NFD, NFKC, NFKD, Lowercase, Strip, Prepend, Replace and Sequence");
}

void Normalizer::apply(Piece& piece, const EncodeContext& context) const {
  const size_t most = piece.text.size() * kMaxGrowth + kMaxGrowthBytes;
  for (const Step& step : steps_) {
    step(piece, context);
    if (piece.text.size() > most) {
      fail(ErrorKind::data, "the tokenizer's normaliser makes more than ", most,
           " bytes of a text; the tokenizer.json is not usable");
    }
  }
}

}  // namespace mora
