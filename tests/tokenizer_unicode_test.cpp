// Character classes, regular expressions and normal forms against the reference, on every code
// point; the syntax that is translated and the one that is refused; UTF-8 that is none.
#include <doctest/doctest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "mora/io/sha256.hpp"
#include "temporary_folder.hpp"
#include "text/regex.hpp"
#include "text/regex_syntax.hpp"
#include "text/unicode.hpp"

using namespace mora;

namespace {

nlohmann::json golden(const std::string& name) {
  return nlohmann::json::parse(bytes_of(MORA_SOURCE_DIR "/tests/golden/tokenizers/" + name));
}

// The characters in blocks of 0x10000, without those that libraries of different age disagree on.
const std::vector<std::vector<std::string>>& characters() {
  static const auto made = [] {
    const auto ranges =
        golden("goldens.json").at("left_out").get<std::vector<std::pair<uint32_t, uint32_t>>>();
    std::vector<std::vector<std::string>> blocks;
    size_t count = 0;
    for (uint32_t c = 0; c < 0x110000; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      if (count++ % 0x10000 == 0) blocks.emplace_back();
      const auto behind = std::upper_bound(ranges.begin(), ranges.end(), std::pair(c, UINT32_MAX));
      if (behind != ranges.begin() && std::prev(behind)->second >= c) continue;
      append_utf8(blocks.back().emplace_back(), c);
    }
    return blocks;
  }();
  return made;
}

template <class Result>
void compare(const std::string& name, const nlohmann::json& hashes, const Result& result) {
  REQUIRE(hashes.size() == characters().size());
  for (size_t block = 0; block < hashes.size(); ++block) {
    std::string all;
    for (const std::string& c : characters()[block]) all += result(c);
    CHECK_MESSAGE(sha256_hex(all).substr(0, 12) == hashes[block], name, ", block ", block);
  }
}

using Matches = std::vector<std::pair<size_t, size_t>>;

Matches matches_of(const std::string& pattern, const std::string& text) {
  RegexScratch scratch;
  Matches matches;
  Regex(pattern).find_all(text, scratch,
                          [&](size_t begin, size_t end) { matches.emplace_back(begin, end); });
  return matches;
}

std::string refusal(const std::string& pattern) {
  return message_of(ErrorKind::data, [&] { Regex{pattern}; });
}

}  // namespace

TEST_SUITE("tokenizer_unicode") {
  TEST_CASE("expressions match the characters that the reference's match") {
    const auto all = golden("classes.json").at("expressions");
    CHECK(all.size() > 20);
    for (const auto& [expression, hashes] : all.items()) {
      const Regex regex(expression);
      RegexScratch scratch;
      compare(expression, hashes, [&](const std::string& c) {
        bool found = false;
        regex.find_all(c, scratch, [&](size_t, size_t) { found = true; });
        return found ? '1' : '0';
      });
    }
  }

  TEST_CASE("normal forms and lower case are the reference's") {
    const auto all = golden("classes.json").at("normalizers");
    for (const auto& [name, form] : {std::pair("NFC", NormalForm::nfc),
                                     {"NFD", NormalForm::nfd},
                                     {"NFKC", NormalForm::nfkc},
                                     {"NFKD", NormalForm::nfkd}}) {
      compare(name, all.at(name),
              [wanted = form](const std::string& c) { return normal_form(wanted, c) + '\xff'; });
    }
    compare("Lowercase", all.at("Lowercase"),
            [](const std::string& c) { return to_lower_case(c) + '\xff'; });
    CHECK(normal_form(NormalForm::nfc, "e\u0301 a\u0323\u0302 \u1100\u1161") == "é ậ 가");
  }

  TEST_CASE("matches follow each other as in Oniguruma") {
    CHECK(matches_of("a*", "aab") == Matches{{0, 2}, {3, 3}});
    CHECK(matches_of("x*", "ab") == Matches{{0, 0}, {1, 1}, {2, 2}});
    CHECK(matches_of("\\s+(?!\\S)|\\s+", "a   b ") == Matches{{1, 3}, {3, 4}, {5, 6}});
    CHECK(matches_of("^b$", "a\nb\nc") == Matches{{2, 3}});
    CHECK(matches_of("a.c", "a\nc a\rc") == Matches{{4, 7}});
    CHECK(matches_of("x{,2}y", "xxxy") == Matches{{1, 4}});
    CHECK(matches_of("a{b", "a{b") == Matches{{0, 3}});
    CHECK(matches_of("\\h+", "xyzBEEF") == Matches{{3, 7}});
  }

  TEST_CASE("a hyphen in a class is a range where it is one in Oniguruma") {
    std::string ascii;
    for (char c = ' '; c <= '~'; ++c) ascii += c;
    for (const auto& each : std::vector<std::pair<std::string, std::string>>{
             {"[a[-z]]", "-az"},       {"[[a]-z]", "-az"},
             {"[[a-]z]", "-az"},       {"[[a-]-z]", "-az"},
             {"[[x]-[y]]", "-xy"},     {"[[a-c]-e]", "-abce"},
             {"[[a]-c-e]", "-acde"},   {"[a-b-[x]]", "-abx"},
             {"[a-b[x]-z]", "-abxz"},  {"[-[x]]", "-x"},
             {"[[x]-]", "-x"},         {"[[+]--/]", "+-./"},
             {"[[+]-\\]]", "+-]"},     {"[[a]-\\d]", "-0123456789a"},
             {"[a-c-e-g]", "-abcefg"}, {"[--/]", "-./"},
             {"[+--]", "+,-"},         {"[+-\\--]", "+,-"},
             {"[-a]", "-a"},           {"[a-]", "-a"}}) {
      std::string found;
      for (const auto& [begin, end] : matches_of(each.first, ascii)) {
        found += ascii.substr(begin, end - begin);
      }
      CHECK_MESSAGE(found == each.second, each.first);
    }
    CHECK(matches_of("[à-é-z]+", "â-zy") == Matches{{0, 4}});
  }

  TEST_CASE("what would mean something else is refused by name") {
    for (const auto& [pattern, what] : std::vector<std::pair<std::string, std::string>>{
             {"a\\b", "the escape \\b"},
             {"(a)\\1", "the escape \\1"},
             {"\\K", "the escape \\K"},
             {"\\R", "the escape \\R"},
             {"\\Qa", "the escape \\Q"},
             {"[[:alpha:]]", "POSIX"},
             {"[a&&b]", "intersection"},
             {"[a[^b]]", "negated character class"},
             {"[+-[0-9]]", "byte 2: a range that ends in a character class"},
             {"[]", "empty character class"},
             {"[a", "without an end"},
             {"[\\W]", "the escape \\W in a character class"},
             {"(?m:a)", "(?m"},
             {"(?<n>a)", "(?<"},
             {"b(?i)a", "(?i"},
             {"(*FAIL)", "(*"},
             {"\\p{Alpha}", "does not compile"},
             {"\\p{^L}", "general category"},
             {"\\pL", "\\p without"},
             {"a{2,3}+", "quantifier +"},
             {"a{2}?", "quantifier ?"},
             {"\\xff", "single byte"},
             {"\\x{110000}", "does not compile"},
             {"(", "does not compile"},
             {"a**(", "does not compile"},
             {"\\", "the escape"},
             {"", "empty"},
             {std::string(300, '('), "does not compile"},
             {"(((a{60000}){60000}){60000})", "does not compile"},
             {std::string(70000, 'a'), "70000 bytes"}}) {
      const std::string message = refusal(pattern);
      INFO(message);
      CHECK(message.find(what) != std::string::npos);
      CHECK(message.size() < 600);
    }
  }

  TEST_CASE("an expression that takes exponential time is an error") {
    RegexScratch scratch;
    const Regex regex("(?:a+)+$");
    const std::string text = std::string(60, 'a') + "b";
    const std::string message =
        message_of(ErrorKind::data, [&] { regex.find_all(text, scratch, [](size_t, size_t) {}); });
    CHECK(message.find("61 bytes: match limit exceeded") != std::string::npos);
  }

  TEST_CASE("a match of a megabyte needs no stack") {
    const std::string text(1000000, 'a');
    CHECK(matches_of("(?:a|b)+", text) == Matches{{0, 1000000}});
    CHECK(matches_of("\\s+(?!\\S)|\\s*[\r\n]|(?i:A+)", text) == Matches{{0, 1000000}});
  }

  TEST_CASE("bytes that are not UTF-8 are replaced as Python and Rust do") {
    for (const auto& [bytes, text] : std::vector<std::pair<std::string, std::string>>{
             {"abc", "abc"},
             {"a\xff"
              "b",
              "a\uFFFD"
              "b"},
             {"\xC0\xAF", "\uFFFD\uFFFD"},
             {"\xE2\x82", "\uFFFD"},
             {"\xE2\x82z", "\uFFFDz"},
             {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
             {"\xF0\x9F\x98", "\uFFFD"},
             {"\xF0\x8F\xBF\xBF", "\uFFFD\uFFFD\uFFFD\uFFFD"},
             {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
             {"\x80\x80", "\uFFFD\uFFFD"},
             {"\xE4\xB8\xAD\xE4", "中\uFFFD"}}) {
      CHECK(to_valid_utf8(bytes) == text);
    }
  }
}
