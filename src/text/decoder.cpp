// One function per decoder of the reference. Each takes the list of tokens that the one before it
// made.
#include "text/decoder.hpp"

#include <cctype>

#include "mora/io/text.hpp"
#include "text/pre_tokenizer.hpp"
#include "text/unicode.hpp"

namespace mora {
namespace {

using Tokens = std::vector<std::string>;

constexpr std::string_view kReplacement = "\uFFFD";

std::string joined(const Tokens& tokens, std::string_view between) {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) text += between;
    text += tokens[i];
  }
  return text;
}

// A token with a character that stands for no byte counts as it is written.
Tokens decode_byte_level(Tokens tokens, RegexScratch&) {
  std::string bytes;
  for (const std::string& token : tokens) {
    const size_t before = bytes.size();
    for (size_t at = 0; at < token.size();) {
      const int byte = byte_of_character(next_code_point(token, at));
      if (byte < 0) {
        bytes.resize(before);
        bytes += token;
        break;
      }
      bytes += static_cast<char>(byte);
    }
  }
  return {to_valid_utf8(bytes)};
}

// The byte of "<0xHH>", -1 for any other token. The reference also reads a sign as a digit.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return -1;
  const auto digit = [&](size_t i) {
    const char c = token[i];
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  const int high = token[3] == '+' ? 0 : digit(3);
  const int low = digit(4);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Tokens decode_bytes(Tokens tokens, RegexScratch&) {
  Tokens decoded;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (is_valid_utf8(bytes)) {
      decoded.push_back(bytes);
    } else {
      for (size_t i = 0; i < bytes.size(); ++i) decoded.emplace_back(kReplacement);
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    const int byte = fallback_byte(token);
    if (byte >= 0) {
      bytes += static_cast<char>(byte);
      continue;
    }
    flush();
    decoded.push_back(std::move(token));
  }
  flush();
  return decoded;
}

struct StripDecoder {
  std::string content;  // one character
  int64_t start, stop;  // at most so many

  Tokens operator()(Tokens tokens, RegexScratch&) const {
    for (std::string& token : tokens) {
      std::string_view rest = token;
      for (int64_t i = 0; i < start && rest.starts_with(content); ++i) {
        rest.remove_prefix(content.size());
      }
      for (int64_t i = 0; i < stop && rest.ends_with(content); ++i) {
        rest.remove_suffix(content.size());
      }
      token = std::string(rest);
    }
    return tokens;
  }
};

StripDecoder read_strip(const JsonView& json) {
  check_keys(json, {"content", "start", "stop"});
  StripDecoder strip;
  append_utf8(strip.content, read_character(json.at("content")));
  for (const auto& [key, value] :
       {std::pair("start", &strip.start), std::pair("stop", &strip.stop)}) {
    *value = json.at(key).integer();
    if (*value < 0) json.at(key).wrong_type("a number of characters");
  }
  return strip;
}

struct ReplaceDecoder {
  Pattern pattern;
  std::string content;

  Tokens operator()(Tokens tokens, RegexScratch& scratch) const {
    for (std::string& token : tokens) {
      std::string replaced;
      for (const Span& span : pattern.find(token, scratch)) {
        replaced += span.is_match ? content : token.substr(span.begin, span.end - span.begin);
      }
      token = std::move(replaced);
    }
    return tokens;
  }
};

struct MetaspaceDecoder {
  Metaspace metaspace;

  Tokens operator()(Tokens tokens, RegexScratch&) const {
    const std::string& mark = metaspace.replacement;
    for (size_t i = 0; i < tokens.size(); ++i) {
      const bool drops = i == 0 && metaspace.scheme != PrependScheme::never;
      std::string replaced;
      for (size_t at = 0; at < tokens[i].size();) {
        if (std::string_view(tokens[i]).substr(at).starts_with(mark)) {
          if (!drops) replaced += ' ';
          at += mark.size();
        } else {
          replaced += tokens[i][at++];
        }
      }
      tokens[i] = std::move(replaced);
    }
    return tokens;
  }
};

}  // namespace

Decoder::Decoder(const JsonView& json) : joins_with_space_(false) {
  for (const JsonView& component : flattened(json, "decoders")) {
    steps_.push_back(read_step(component));
  }
}

Decoder::Step Decoder::read_step(const JsonView& json) {
  const std::string type = component_type(json);
  if (type == "ByteLevel") {
    check_keys(json, {"add_prefix_space", "trim_offsets", "use_regex"});
    return decode_byte_level;
  }
  if (type == "ByteFallback") {
    check_keys(json, {});
    return decode_bytes;
  }
  if (type == "Fuse") {
    check_keys(json, {});
    return [](Tokens tokens, RegexScratch&) { return Tokens{joined(tokens, "")}; };
  }
  if (type == "Strip") return read_strip(json);
  if (type == "Replace") {
    check_keys(json, {"pattern", "content"});
    return ReplaceDecoder{Pattern(json.at("pattern")), json.at("content").string()};
  }
  if (type == "Metaspace") return MetaspaceDecoder{read_metaspace(json)};
  refuse_type(json, "decoder",
              "ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace and Sequence");
}

std::string Decoder::decode(std::vector<std::string> tokens, RegexScratch& scratch) const {
  for (const Step& step : steps_) tokens = step(std::move(tokens), scratch);
  return joined(tokens, joins_with_space_ ? " " : "");
}

}  // namespace mora
