// Answers of mathematical problems: what a completion says, and when two say the same.
//
// Each function gives what its reference gives, its oddities included (tests/golden/answers.json);
// digits are 0-9 only.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace mora {

// MetaMath, eval_gsm8k.py: the first number behind the last "The answer is: ", fractions divided,
// rounded to an integer (halves to even). Nothing where there is none.
std::optional<double> metamath_number(std::string_view completion);

// The integer behind "#### " of a GSM8K answer. Nothing where there is none.
std::optional<double> gsm8k_number(std::string_view answer);

// MetaMath, eval_math.py: what stands behind the last "The answer is: ", up to ".\n".
std::optional<std::string> metamath_answer(std::string_view completion);

// lm-evaluation-harness, gsm8k: strict-match and flexible-extract; "[invalid]" where there is none.
std::string harness_strict(std::string_view completion);
std::string harness_flexible(std::string_view completion);

// Its exact_match for gsm8k: commas, dollar signs, everything up to "#### " and a final full stop
// count for nothing, nor does case.
bool harness_equal(std::string_view prediction, std::string_view reference);

// Hendrycks' MATH: whether two answers are the same after his normalisation of LaTeX.
bool math_equivalent(std::string_view a, std::string_view b);

// That normalisation; nothing where his code would raise an exception (is_equiv compares the texts
// as they are then).
std::optional<std::string> normalise_math(std::string_view answer);

}  // namespace mora
