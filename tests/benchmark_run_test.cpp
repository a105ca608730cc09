// Running a benchmark: likelihoods and continuations of each question are those that the model's
// logits give, whatever else is asked with it.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "mora/benchmarks/run.hpp"
#include "mora/eval/logits.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

namespace mora::testing {

namespace {

// A token a character of 59; BOS is 59, EOS 60.
class Characters final : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const char c : text) ids.push_back(static_cast<int32_t>(kAll.find(c)));
    return ids;
  }
  std::vector<int32_t> encode_formatted(std::string_view text) const override {
    return encode(text);
  }
  std::vector<int32_t> encode_continuation(std::string_view text) const override {
    return encode(text);
  }
  std::string decode(std::span<const int32_t> tokens) const override {
    std::string text;
    for (const int32_t t : tokens) text += t < 59 ? kAll.substr(static_cast<size_t>(t), 1) : "";
    return text;
  }
  int32_t vocab_size() const override { return 61; }
  std::optional<int32_t> bos() const override { return 59; }
  std::optional<int32_t> eos() const override { return 60; }
  bool adds_bos() const override { return true; }
  bool adds_eos() const override { return false; }
  std::string piece(int32_t id) const override { return id < 59 ? decode({{id}}) : "#"; }

 private:
  static constexpr std::string_view kAll =
      " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123.:";
};

class Asked final : public Benchmark {
 public:
  explicit Asked(std::vector<Question> questions) : questions_(std::move(questions)) {}
  const std::vector<Question>& questions() const override { return questions_; }
  std::vector<std::string> measures() const override { return {"length"}; }
  Judgement judge(const Question& question, const Reply& reply) const override {
    return {question.prompt, {static_cast<double>(reply.text.size())}};
  }

 private:
  std::vector<Question> questions_;
};

struct Machine {
  TinyLlama tiny{adapter_kind("mora", "rotation").config};
  std::unique_ptr<Backend> backend = make_cpu_backend();
  Workspace workspace;
  Characters tokenizer;

  ScoredModel scored() { return {tiny.model, tiny.store, *backend, workspace}; }
  std::vector<float> last_logits(const std::vector<int32_t>& ids) {
    const OwnedTensor logits = sequence_logits(tiny.model, tiny.store, ids, *backend);
    const auto all = logits.as<float>();
    return {all.end() - 61, all.end()};
  }

  // One token after the other, of the last 65 tokens: 64 are read.
  double likelihood(const Question& q, const std::string& choice) {
    std::vector<int32_t> ids = tokenizer.encode(q.prompt + choice);
    ids.insert(ids.begin(), 59);
    if (ids.size() > 65) ids.erase(ids.begin(), ids.end() - 65);
    double sum = 0;
    for (size_t at = ids.size() - choice.size(); at < ids.size(); ++at) {
      const std::vector<float> logits =
          last_logits({ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(at)});
      double total = 0;
      for (const float z : logits) total += std::exp(static_cast<double>(z));
      sum += static_cast<double>(logits[static_cast<size_t>(ids[at])]) - std::log(total);
    }
    return sum;
  }

  std::string continuation(const Question& q) {
    std::vector<int32_t> ids = tokenizer.encode(q.prompt), made;
    ids.insert(ids.begin(), 59);
    const auto room = static_cast<size_t>(64 - q.max_new_tokens);
    if (ids.size() > room) ids.erase(ids.begin(), ids.end() - static_cast<std::ptrdiff_t>(room));
    while (static_cast<int64_t>(made.size()) < q.max_new_tokens) {
      const std::vector<float> logits = last_logits(ids);
      made.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
      ids.push_back(made.back());
      if (made.back() == 60) break;
    }
    std::string text = tokenizer.decode(made);
    for (const std::string& stop : q.stops) text = text.substr(0, text.find(stop));
    return text;
  }
};

Question choice(std::string prompt, std::vector<std::string> choices) {
  return {.group = {}, .prompt = std::move(prompt), .choices = std::move(choices), .answer = {}};
}

Question open(std::string prompt, int64_t max_new_tokens, std::vector<std::string> stops = {}) {
  return {.group = {},
          .prompt = std::move(prompt),
          .choices = {},
          .answer = {},
          .stops = std::move(stops),
          .max_new_tokens = max_new_tokens};
}

}  // namespace

TEST_SUITE_BEGIN("benchmarks");

TEST_CASE("each question gets the replies that the model's logits give") {
  Machine machine;
  std::vector<Question> questions;
  for (int i = 0; i < 9; ++i) {
    const std::string shots = i % 2 == 0 ? "Some examples are here.  " : "";
    questions.push_back(
        choice(str(shots, "Question ", std::string(static_cast<size_t>(i), 'x'), ":"),
               {" A", " B", " longer"}));
    questions.push_back(open(str(shots, "Tell ", std::string(static_cast<size_t>(3 * i), 'y')),
                             i % 3 == 0 ? 5 : 12));
  }
  questions.push_back(open(std::string(90, 'z') + "end", 9));  // longer than the model's positions
  questions.push_back(choice(std::string(70, 'z') + "end", {" A", " longer"}));
  // A stop of each answer: two letters from its middle.
  for (size_t i = 1; i < 18; i += 4) {
    const std::string whole = machine.continuation(questions[i]);
    if (whole.size() >= 4) questions[i].stops = {"0123", whole.substr(2, 2)};
  }
  const Asked benchmark(questions);
  for (const int64_t batch_size : {1, 3, 64}) {
    int64_t reported = 0;
    const BenchmarkResult result = run_benchmark(benchmark, machine.scored(),
                                                 {.tokenizer = machine.tokenizer,
                                                  .batch_size = batch_size,
                                                  .ends = {60},
                                                  .progress = [&](int64_t done, int64_t total) {
                                                    CHECK(done > reported);
                                                    CHECK(total == 20);
                                                    reported = done;
                                                  }});
    CHECK(reported == 20);
    size_t cut = 0;
    for (size_t i = 0; i < questions.size(); ++i) {
      INFO(batch_size << ", question " << i);
      const Question& q = questions[i];
      const Reply& reply = result.replies[i];
      CHECK(result.judgements[i].prediction == q.prompt);
      CHECK(reply.log_likelihoods.size() == q.choices.size());
      for (size_t c = 0; c < q.choices.size(); ++c) {
        CHECK(reply.log_likelihoods[c] ==
              doctest::Approx(machine.likelihood(q, q.choices[c])).epsilon(1e-5));
        CHECK(reply.choice_tokens[c] == static_cast<int64_t>(q.choices[c].size()));
      }
      if (!q.choices.empty()) continue;
      CHECK(reply.text == machine.continuation(q));
      cut += q.stops.empty() ? 0 : 1;
    }
    CHECK(cut > 1);
    CHECK(result.summary.size() == 1);
    CHECK(result.summary[0].n == 20);
  }
}

TEST_CASE("an answer that leaves no room for its prompt is an error") {
  Machine machine;
  const Asked benchmark({open("a", 64)});
  const std::string message = message_of(ErrorKind::usage, [&] {
    run_benchmark(benchmark, machine.scored(), {.tokenizer = machine.tokenizer, .batch_size = 1});
  });
  CHECK(
      message.starts_with("max_new_tokens is 64, which leaves no room for a prompt: the model "
                          "has 64 positions"));
}

TEST_SUITE_END();

}  // namespace mora::testing
