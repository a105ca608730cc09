// Questions with solved examples in front, drawn anew for each question.
#pragma once

#include <functional>
#include <vector>

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

enum class Split : uint8_t { test, train };  // which file of a folder that has both

using ReadQuestions =
    std::function<std::vector<Question>(const std::filesystem::path& place, Split split)>;

// The test questions of config.data, config.num_samples of each group, behind config.num_fewshot
// solved ones of config.fewshot, each ended by an empty line: its prompt and right choice, or its
// prompt, a space and its answer. Drawn as lm-evaluation-harness's default sampler draws them,
// with its seed; a question is never its own example where both come from one file. Error(usage)
// where there are not enough examples, Error(data) where there are no questions.
std::vector<Question> with_drawn_examples(const BenchmarkConfig& config, const ReadQuestions& read);

// The same for a benchmark that is asked without examples only: Error(usage) if config wants some.
std::vector<Question> without_examples(const BenchmarkConfig& config, const ReadQuestions& read);

// `place` itself if it is a file; of a folder the file with the split's name, or that with .gz.
std::filesystem::path split_file(const std::filesystem::path& place, Split split,
                                 const std::string& test, const std::string& train);

}  // namespace mora::benchmarks
