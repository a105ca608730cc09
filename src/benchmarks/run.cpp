// Requests are taken in bands: of one band none is more than twice as long as another, so that one
// long request does not make the caches of all short ones long.
#include "mora/benchmarks/run.hpp"

#include <algorithm>
#include <map>
#include <numeric>

#include "mora/eval/generator.hpp"
#include "mora/text/chat_template.hpp"

namespace mora {

namespace {

constexpr int64_t kCacheBytes = int64_t{1} << 30;  // of keys and values
constexpr size_t kQuestionsAtOnce = 64;            // between two reports of progress

struct Band {
  int64_t longest;
  std::vector<size_t> members;  // longest first
};

std::vector<Band> bands_of(std::span<const int64_t> lengths) {
  std::vector<size_t> order(lengths.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(), [&](size_t i) { return lengths[i]; });
  std::vector<Band> bands;
  for (const size_t i : order) {
    if (bands.empty() || 2 * lengths[i] < bands.back().longest) bands.push_back({lengths[i], {}});
    bands.back().members.push_back(i);
  }
  return bands;
}

// The questions of one kind on their way through the model.
class Asking {
 public:
  Asking(std::span<const Question> questions, const ScoredModel& scored, const BenchmarkRun& run,
         std::vector<Reply>& replies)
      : questions_(questions), scored_(scored), run_(run), replies_(replies) {}

  void likelihoods(const std::vector<size_t>& asked);
  // All of them with that many new tokens.
  void continuations(const std::vector<size_t>& asked, int64_t max_new_tokens);

 private:
  // As many sequences of so many tokens as run together.
  int64_t at_once(int64_t capacity, size_t most) const {
    const LlamaConfig& c = scored_.model.config();
    const int64_t token_bytes = 2 * c.num_hidden_layers * c.num_key_value_heads * c.head_dim *
                                static_cast<int64_t>(size_of(scored_.store.working()));
    const int64_t fit = kCacheBytes / (token_bytes * capacity);
    return std::max<int64_t>(1, std::min({fit, run_.batch_size, static_cast<int64_t>(most)}));
  }

  void report(size_t more) {
    done_ += more;
    if (run_.progress)
      run_.progress(static_cast<int64_t>(done_), static_cast<int64_t>(questions_.size()));
  }

  void likelihoods(const std::vector<std::vector<Continuation>>& requests,
                   std::span<const size_t> asked, LikelihoodScorer& scorer);
  std::vector<int32_t> prompt_of(const Question& question) const;
  bool stopped(const Question& question, std::span<const int32_t> made) const;
  void keep(size_t question, std::span<const int32_t> made);

  std::span<const Question> questions_;
  const ScoredModel& scored_;
  const BenchmarkRun& run_;
  std::vector<Reply>& replies_;
  size_t done_ = 0;
};

// All choices of the asked questions together.
void Asking::likelihoods(const std::vector<std::vector<Continuation>>& requests,
                         std::span<const size_t> asked, LikelihoodScorer& scorer) {
  std::vector<Continuation> all;
  for (const size_t q : asked) all.insert(all.end(), requests[q].begin(), requests[q].end());
  const std::vector<Likelihood> found = scorer.score(all);
  size_t next = 0;
  for (const size_t q : asked) {
    for (const Continuation& request : requests[q]) {
      replies_[q].log_likelihoods.push_back(found[next++].log_probability);
      replies_[q].choice_tokens.push_back(static_cast<int64_t>(request.continuation.size()));
    }
  }
  report(asked.size());
}

void Asking::likelihoods(const std::vector<size_t>& asked) {
  std::vector<std::vector<Continuation>> requests(questions_.size());
  std::vector<int64_t> lengths;
  for (const size_t q : asked) {
    size_t longest = 1;
    for (const std::string& choice : questions_[q].choices) {
      requests[q].push_back(encode_pair(run_.tokenizer, questions_[q].prompt, choice));
      const Continuation& request = requests[q].back();
      longest = std::max(longest, request.context.size() + request.continuation.size() - 1);
    }
    lengths.push_back(std::min(static_cast<int64_t>(longest), scored_.model.longest()));
  }
  for (Band& band : bands_of(lengths)) {
    // In the order of the questions: neighbours have the same examples in front.
    std::ranges::sort(band.members);
    std::vector<size_t> members;
    for (const size_t i : band.members) members.push_back(asked[i]);
    const size_t choices = questions_[members.front()].choices.size();
    LikelihoodScorer scorer(scored_.model, scored_.store,
                            at_once(band.longest, members.size() * choices), band.longest,
                            scored_.backend, scored_.workspace);
    for (size_t begin = 0; begin < members.size(); begin += kQuestionsAtOnce) {
      const size_t count = std::min(kQuestionsAtOnce, members.size() - begin);
      likelihoods(requests, std::span(members).subspan(begin, count), scorer);
    }
  }
}

// Whether a stop is in the text that has been made. Each of its bytes is of another token at the
// most, and the space that a text's first token loses is none of its.
bool Asking::stopped(const Question& question, std::span<const int32_t> made) const {
  size_t longest = 0;
  for (const std::string& stop : question.stops) longest = std::max(longest, stop.size());
  if (longest == 0) return false;
  const std::string end = run_.tokenizer.decode(made.last(std::min(made.size(), longest + 2)));
  return std::ranges::any_of(question.stops, [&](const std::string& stop) {
    return !stop.empty() && end.find(stop) != std::string::npos;
  });
}

void Asking::keep(size_t question, std::span<const int32_t> made) {
  std::string text = run_.tokenizer.decode(made);
  for (const std::string& stop : questions_[question].stops) {
    if (!stop.empty()) text.resize(std::min(text.size(), text.find(stop)));
  }
  replies_[question].text = std::move(text);
}

// A prompt, and behind it room for the answer.
std::vector<int32_t> Asking::prompt_of(const Question& question) const {
  const int64_t room = scored_.model.longest() - question.max_new_tokens;
  if (room < 1) {
    fail(ErrorKind::usage, "max_new_tokens is ", question.max_new_tokens,
         ", which leaves no room for a prompt: the model has ", scored_.model.longest(),
         " positions (max_position_embeddings)");
  }
  std::vector<int32_t> prompt =
      encode_prompt(run_.tokenizer, question.prompt, PromptKind::formatted);
  if (static_cast<int64_t>(prompt.size()) > room) prompt.erase(prompt.begin(), prompt.end() - room);
  return prompt;
}

void Asking::continuations(const std::vector<size_t>& asked, int64_t max_new_tokens) {
  std::vector<std::vector<int32_t>> prompts;
  std::vector<int64_t> lengths;
  for (const size_t q : asked) {
    prompts.push_back(prompt_of(questions_[q]));
    lengths.push_back(static_cast<int64_t>(prompts.back().size()) + max_new_tokens);
  }
  for (const Band& band : bands_of(lengths)) {
    const int64_t batch = at_once(band.longest, band.members.size());
    Generator generator(scored_.model, scored_.store, {batch, band.longest}, scored_.backend,
                        scored_.workspace);
    for (size_t begin = 0; begin < band.members.size(); begin += static_cast<size_t>(batch)) {
      const size_t count = std::min(static_cast<size_t>(batch), band.members.size() - begin);
      const auto part = std::span(band.members).subspan(begin, count);
      std::vector<std::vector<int32_t>> together;
      for (const size_t i : part) together.push_back(prompts[i]);
      const auto finished = [&](size_t p, std::span<const int32_t> made) {
        return stopped(questions_[asked[part[p]]], made);
      };
      const auto made = generator.generate(
          together, {.max_new_tokens = max_new_tokens, .finished = finished, .ends = run_.ends});
      for (size_t p = 0; p < count; ++p) keep(asked[part[p]], made[p]);
      report(count);
    }
  }
}

}  // namespace

BenchmarkResult run_benchmark(const Benchmark& benchmark, const ScoredModel& scored,
                              const BenchmarkRun& run) {
  const std::vector<Question>& questions = benchmark.questions();
  ensure(!questions.empty(), "a benchmark without questions");
  BenchmarkResult result;
  result.replies.resize(questions.size());
  std::vector<size_t> chosen;
  std::map<int64_t, std::vector<size_t>> continued;  // by their max_new_tokens
  for (size_t q = 0; q < questions.size(); ++q) {
    const bool choice = !questions[q].choices.empty();
    (choice ? chosen : continued[questions[q].max_new_tokens]).push_back(q);
  }
  Asking asking(questions, scored, run, result.replies);
  asking.likelihoods(chosen);
  for (const auto& [max_new_tokens, asked] : continued) asking.continuations(asked, max_new_tokens);
  for (size_t q = 0; q < questions.size(); ++q)
    result.judgements.push_back(benchmark.judge(questions[q], result.replies[q]));
  result.summary = benchmark.summary(result.judgements);
  return result;
}

}  // namespace mora
