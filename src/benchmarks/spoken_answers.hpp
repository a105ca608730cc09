// What AdaptLLM's qa_utils.py and metric.py read out of generated answers, their oddities included
// (tests/golden/generation.json); digits are 0-9 only.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mora::benchmarks {

inline constexpr int64_t kAdaptTokens = 100;  // generate_max_len of its inference.yaml

// normalized_num: the numbers of the first line, in order. "1,234" is 1234, "5%" is 0.05; what
// Python would not take as a number ("007") is infinite.
std::vector<double> numbers_in(std::string_view answer);

// compute_ConvFinQA: whether any number of the answer is the first of the reference, to 0.01.
bool numbers_agree(std::string_view answer, std::string_view reference);

struct Entity {
  std::string name, type;
  bool operator==(const Entity&) const = default;
};

// parse_ner: "Silicon Valley Bank (ORG), ..." gives the word in front of each parenthesis and what
// is in it, each pair once.
std::vector<Entity> entities_in(std::string_view answer);

// nereval's F1 of one answer: an entity counts half for its name and half for its type.
double entity_f1(const std::vector<Entity>& gold, const std::vector<Entity>& predicted);

}  // namespace mora::benchmarks
