// Extraction and comparison of answers, against the references on generated completions.
#include "mora/eval/answers.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <string>

#include "io/json.hpp"
#include "mora/io/file.hpp"

using namespace mora;

TEST_SUITE("answers") {
  const std::string kFile = std::string(MORA_SOURCE_DIR) + "/tests/golden/answers.json";

  TEST_CASE("completions: the references' answers") {
    const Json goldens = parse_json(read_file(kFile, size_t{16} << 20), kFile);
    CHECK(goldens["completions"].size() > 300);
    for (const Json& c : goldens["completions"]) {
      const std::string text = c["text"];
      INFO(text);
      const auto number = metamath_number(text);
      CHECK(number.has_value() == c["number"].is_string());
      if (number && c["number"].is_string())
        CHECK(*number == doctest::Approx(std::stod(c["number"].get<std::string>())).epsilon(1e-15));
      const auto answer = metamath_answer(text);
      CHECK(answer.has_value() == c["answer"].is_string());
      if (answer && c["answer"].is_string()) CHECK(*answer == c["answer"].get<std::string>());
      CHECK(harness_strict(text) == c["strict"].get<std::string>());
      CHECK(harness_flexible(text) == c["flexible"].get<std::string>());
    }
  }

  TEST_CASE("answers: what is normalised, what is equal") {
    const Json goldens = parse_json(read_file(kFile, size_t{16} << 20), kFile);
    std::set<std::pair<std::string, std::string>> equal;
    for (const Json& pair : goldens["equal"]) equal.emplace(pair[0], pair[1]);
    CHECK(equal.size() > 20);
    const Json& answers = goldens["answers"];
    for (size_t i = 0; i < answers.size(); ++i) {
      const std::string a = answers[i];
      INFO("\"" << a << "\"");
      const auto normal = normalise_math(a);
      CHECK(normal.has_value() == goldens["normal"][i].is_string());
      if (normal && goldens["normal"][i].is_string())
        CHECK(*normal == goldens["normal"][i].get<std::string>());
      for (const Json& other : answers) {
        const std::string b = other;
        if (a >= b) continue;
        INFO("\"" << b << "\"");
        CHECK(math_equivalent(a, b) == equal.contains({a, b}));
      }
    }
  }

  TEST_CASE("results of GSM8K") {
    CHECK(gsm8k_number("so.\n#### 1,234").value() == 1234);
    CHECK(gsm8k_number("#### -5").value() == -5);
    CHECK(!gsm8k_number("#### five").has_value());
    CHECK(!gsm8k_number("5").has_value());
    CHECK(harness_equal("1,234", "so 3\n#### 1234"));
    CHECK(harness_equal("18.", "$18"));
    CHECK(!harness_equal("18.0", "18"));
  }
}
