// ICU behind the few functions that tokenizers need. Text of ASCII never reaches ICU.
#include "text/unicode.hpp"

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>

#include <algorithm>
#include <array>
#include <memory>

#include "mora/core/error.hpp"

namespace mora {
namespace {

// Length of the longest prefix of a code point at the front of `bytes`, and whether it is complete.
struct Prefix {
  size_t length;
  bool complete;
};

Prefix utf8_prefix(std::string_view bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {1, true};
  if (lead < 0xC2 || lead > 0xF4) return {1, false};
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (size_t i = 1; i < length; ++i) {
    const uint8_t from = i == 1 ? low : 0x80;
    const uint8_t to = i == 1 ? high : 0xBF;
    if (i >= bytes.size() || byte(i) < from || byte(i) > to) return {i, false};
  }
  return {length, true};
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return (c & 0x80) == 0; });
}

uint32_t category_bit(char32_t c) {
  return U_GET_GC_MASK(static_cast<UChar32>(c));
}

const icu::Normalizer2& newest_normalizer(NormalForm form) {
  UErrorCode code = U_ZERO_ERROR;
  const icu::Normalizer2* found = nullptr;
  switch (form) {
    case NormalForm::nfc:
      found = icu::Normalizer2::getNFCInstance(code);
      break;
    case NormalForm::nfd:
      found = icu::Normalizer2::getNFDInstance(code);
      break;
    case NormalForm::nfkc:
      found = icu::Normalizer2::getNFKCInstance(code);
      break;
    case NormalForm::nfkd:
      found = icu::Normalizer2::getNFKDInstance(code);
      break;
  }
  ensure(U_SUCCESS(code) != 0 && found != nullptr, "ICU has no normaliser: ", u_errorName(code));
  return *found;
}

// The reference's tables are of Unicode 11.0: what came later has no decomposition there.
class ReferenceNormalizers {
 public:
  ReferenceNormalizers() {
    UErrorCode code = U_ZERO_ERROR;
    characters_.applyPattern(u"[:age=11.0:]", code);
    ensure(U_SUCCESS(code) != 0, "ICU does not know [:age=11.0:]: ", u_errorName(code));
    characters_.freeze();
    for (const auto form : {NormalForm::nfc, NormalForm::nfd, NormalForm::nfkc, NormalForm::nfkd}) {
      forms_[static_cast<size_t>(form)] =
          std::make_unique<icu::FilteredNormalizer2>(newest_normalizer(form), characters_);
    }
  }

  const icu::Normalizer2& operator[](NormalForm form) const {
    return *forms_[static_cast<size_t>(form)];
  }

 private:
  icu::UnicodeSet characters_;
  std::array<std::unique_ptr<icu::FilteredNormalizer2>, 4> forms_;
};

}  // namespace

std::string to_valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    size_t valid = 0;
    Prefix prefix{0, true};
    while (valid < bytes.size()) {
      prefix = utf8_prefix(bytes.substr(valid));
      if (!prefix.complete) break;
      valid += prefix.length;
    }
    text += bytes.substr(0, valid);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    text += "\uFFFD";
    bytes.remove_prefix(prefix.length);
  }
  return text;
}

size_t utf8_character_bytes(std::string_view bytes) {
  const Prefix prefix = utf8_prefix(bytes);
  return prefix.complete ? prefix.length : 0;
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0 | c >> 6);
    put(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    put(0xE0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  } else {
    put(0xF0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3F));
    put(0x80 | (c >> 6 & 0x3F));
    put(0x80 | (c & 0x3F));
  }
}

bool is_white_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_WHITE_SPACE) != 0;
}

bool is_word(char32_t c) {
  constexpr uint32_t kMask = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  const auto u = static_cast<UChar32>(c);
  return (category_bit(c) & kMask) != 0 || u_hasBinaryProperty(u, UCHAR_ALPHABETIC) != 0 ||
         u_hasBinaryProperty(u, UCHAR_JOIN_CONTROL) != 0;
}

bool is_numeric(char32_t c) {
  return (category_bit(c) & U_GC_N_MASK) != 0;
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c != 0x7F && (category_bit(c) & (U_GC_L_MASK | U_GC_N_MASK)) == 0;
  constexpr uint8_t kReferenceVersion = 8;  // of Unicode, of the reference's table
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(c), age);
  return age[0] <= kReferenceVersion && (category_bit(c) & U_GC_P_MASK) != 0;
}

std::string to_lower_case(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text, at);
    if (c == 0x130) {
      lower += "i\u0307";  // the only character whose lower case is two
    } else {
      append_utf8(lower, static_cast<char32_t>(u_tolower(static_cast<UChar32>(c))));
    }
  }
  return lower;
}

std::string normal_form(NormalForm form, std::string_view text) {
  if (is_ascii(text)) return std::string(text);
  static const ReferenceNormalizers normalizers;
  UErrorCode code = U_ZERO_ERROR;
  std::string normal;
  icu::StringByteSink<std::string> sink(&normal, static_cast<int32_t>(text.size()));
  normalizers[form].normalizeUTF8(
      0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink, nullptr, code);
  ensure(U_SUCCESS(code) != 0, "ICU cannot normalise: ", u_errorName(code));
  return normal;
}

}  // namespace mora
