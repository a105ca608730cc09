// The names are llama.cpp's; what they stand for is fixed by the tokenizers that carry them. The
// regular expressions are those models' own.
#include "text/gguf_pre_tokenizers.hpp"

#include <algorithm>
#include <array>
#include <vector>

#include "mora/io/text.hpp"

namespace mora {

namespace {

constexpr std::string_view kGpt2Step = "gpt-2", kDigitsStep = "digits";

constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// Two spellings of the English endings; files have either.
constexpr std::string_view kEndings = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
constexpr std::string_view kSpelledEndings =
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";

constexpr std::string_view kGpt2[] = {kGpt2Step};
constexpr std::string_view kDigits[] = {kDigitsStep, kGpt2Step};
constexpr std::string_view kLlama3[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::string_view kQwen2[] = {
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
constexpr std::string_view kTekken[] = {
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
// What llama.cpp does where a file names "default".
constexpr std::string_view kDefault[] = {R"([\p{P}\$\+<=>\^~\|]+)", kGpt2Pattern, R"(\p{N}+)",
                                         "[0-9][0-9][0-9]"};

// The first entry that fits is the name for a tokenizer.json.
constexpr std::array kAll = {
    NamedPreTokenizer{"gpt-2", kGpt2},
    NamedPreTokenizer{"olmo", kGpt2, true},
    NamedPreTokenizer{"smollm", kDigits},
    NamedPreTokenizer{"llama-bpe", kLlama3, false, true, true},
    NamedPreTokenizer{"dbrx", kLlama3},
    NamedPreTokenizer{"qwen2", kQwen2, true},
    NamedPreTokenizer{"stablelm2", kQwen2},
    NamedPreTokenizer{"tekken", kTekken, false, true, true},
    NamedPreTokenizer{"default", kDefault},
    // Other names for the same.
    NamedPreTokenizer{"mpt", kGpt2},
    NamedPreTokenizer{"phi-2", kGpt2},
    NamedPreTokenizer{"starcoder", kDigits},
    NamedPreTokenizer{"refact", kDigits},
    NamedPreTokenizer{"codeshell", kDigits},
    NamedPreTokenizer{"llama3", kLlama3, false, true, true},
    NamedPreTokenizer{"llama-v3", kLlama3, false, true, true},
    NamedPreTokenizer{"smaug-bpe", kLlama3},
    NamedPreTokenizer{"deepseek-r1-qwen", kQwen2, true},
};

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", false},
          {"trim_offsets", true},
          {"use_regex", use_regex}};
}

std::string canonical(std::string regex) {
  const size_t at = regex.find(kSpelledEndings);
  if (at != std::string::npos) regex.replace(at, kSpelledEndings.size(), kEndings);
  return regex;
}

bool flag(const JsonView& json, std::string_view key, bool otherwise) {
  return json.has(key) ? json.at(key).boolean() : otherwise;
}

// Matches become pieces, and so does what stands between them.
void require_isolated(const JsonView& split) {
  const std::string behavior = split.at("behavior").string();
  const bool invert = flag(split, "invert", false);
  if (!(behavior == "Isolated" && !invert) && !(behavior == "Removed" && invert)) {
    split.wrong("cuts the text in a way that GGUF has no name for");
  }
}

void add_step(const JsonView& json, std::vector<std::string>& steps) {
  const std::string type = json.at("type").string();
  if (type == "Sequence") {
    for (const JsonView& part : json.at("pretokenizers").items()) {
      if (part.at("type").string() == "Sequence") part.wrong("is a sequence within a sequence");
      add_step(part, steps);
    }
  } else if (type == "ByteLevel") {
    if (flag(json, "add_prefix_space", true)) {
      json.wrong("has add_prefix_space, which byte-level BPE in GGUF does not");
    }
    if (flag(json, "use_regex", true)) steps.emplace_back(kGpt2Step);
  } else if (type == "Digits" && flag(json, "individual_digits", false)) {
    steps.emplace_back(kDigitsStep);
  } else if (type == "Split" && json.at("pattern").has("Regex")) {
    require_isolated(json);
    steps.push_back(canonical(json.at("pattern").at("Regex").string()));
  } else {
    json.wrong("is a pre-tokenizer that GGUF has no name for");
  }
}

bool has_nfc(const JsonView& tokenizer) {
  if (!tokenizer.has("normalizer")) return false;
  const JsonView json = tokenizer.at("normalizer");
  const std::string type = json.at("type").string();
  if (type == "NFC") return true;
  if (type == "Sequence") {
    const std::vector<JsonView> parts = json.at("normalizers").items();
    if (parts.empty()) return false;
    if (parts.size() == 1 && parts.front().at("type").string() == "NFC") return true;
  }
  json.wrong("is a normaliser that GGUF has no name for");
}

}  // namespace

const NamedPreTokenizer* find_pre_tokenizer(std::string_view name) {
  const auto* found = std::ranges::find(kAll, name, &NamedPreTokenizer::name);
  return found == kAll.end() ? nullptr : found;
}

std::string known_pre_tokenizers() {
  std::string names;
  for (const NamedPreTokenizer& pre : kAll) names += str(names.empty() ? "" : ", ", pre.name);
  return names;
}

Json normalizer_json(const NamedPreTokenizer& pre) {
  return pre.nfc ? Json{{"type", "NFC"}} : Json(nullptr);
}

Json pre_tokenizer_json(const NamedPreTokenizer& pre) {
  Json parts = Json::array();
  bool built_in = false;
  for (const std::string_view step : pre.steps) {
    if (step == kGpt2Step) {
      built_in = true;
    } else if (step == kDigitsStep) {
      parts.push_back({{"type", "Digits"}, {"individual_digits", true}});
    } else {
      parts.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", std::string(step)}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    }
  }
  parts.push_back(byte_level(built_in));
  if (parts.size() == 1) return parts.front();
  return {{"type", "Sequence"}, {"pretokenizers", parts}};
}

const NamedPreTokenizer& pre_tokenizer_of(const JsonView& tokenizer) {
  std::vector<std::string> steps;
  if (!tokenizer.has("pre_tokenizer")) tokenizer.wrong("has no pre_tokenizer; expected ByteLevel");
  add_step(tokenizer.at("pre_tokenizer"), steps);
  const bool nfc = has_nfc(tokenizer);
  const bool ignore_merges = flag(tokenizer.at("model"), "ignore_merges", false);
  const auto* found = std::ranges::find_if(kAll, [&](const NamedPreTokenizer& pre) {
    return std::ranges::equal(pre.steps, steps) && pre.nfc == nfc &&
           pre.ignore_merges == ignore_merges;
  });
  if (found == kAll.end()) {
    tokenizer.at("pre_tokenizer")
        .wrong(str("with ", nfc ? "NFC" : "no normaliser", " and ignore_merges ",
                   ignore_merges ? "true" : "false",
                   " is a combination that GGUF has no name for; known are ",
                   known_pre_tokenizers()));
  }
  return *found;
}

}  // namespace mora
