// Sentiments and tags: the answer is one of a few words, the likeliest of them per token
// (AdaptLLM's inference.py), and the measure the F1 of each word weighted by its share.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "benchmarks/multiple_choice.hpp"

namespace mora::benchmarks {

inline const std::vector<std::string> kSentiments = {"negative", "neutral", "positive"};

// scikit-learn's f1_score(average="weighted"): every label's F1, weighted by how many of `gold` it
// is. Both have the same size, above 0.
double weighted_f1(std::span<const std::string> gold, std::span<const std::string> predicted);

// MultipleChoice with the summary's "weighted_f1" besides: with several groups that of each, and in
// total their mean (compute_headline of AdaptLLM's metric.py).
class Classification final : public MultipleChoice {
 public:
  explicit Classification(std::vector<Question> questions)
      : MultipleChoice(std::move(questions), {{"acc", Preference::per_token}}) {}

  std::vector<Measurement> summary(std::span<const Judgement> judgements) const override;
};

// A question that ends where one of `labels` follows; `gold` is the right one's index.
Question label_question(std::string prompt, const std::vector<std::string>& labels, size_t gold);

}  // namespace mora::benchmarks
