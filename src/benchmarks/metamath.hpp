// How MetaMath's scripts ask (eval_gsm8k.py, eval_math.py).
#pragma once

#include <string>
#include <string_view>

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

inline constexpr std::string_view kNoAnswer = "[invalid]";  // a prediction that could not be read

// The question without its answer: Alpaca's prompt and "Let's think step by step.", which prompt
// "alpaca" leaves out; generation of config.max_new_tokens tokens, or as many as the script takes.
Question metamath_question(const BenchmarkConfig& config, std::string problem,
                           int64_t script_tokens);

}  // namespace mora::benchmarks
