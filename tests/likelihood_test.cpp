// Likelihoods of continuations: those of whole sequences, however requests share their beginnings.
#include "backend_under_test.hpp"
#include "mora/eval/likelihood.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "mora/core/random.hpp"
#include "mora/eval/logits.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

namespace mora::testing {

namespace {

// From the logits of the whole sequence at once.
Likelihood expected(const TinyLlama& tiny, const Backend& backend, const Continuation& request) {
  std::vector<int32_t> ids = request.context;
  ids.insert(ids.end(), request.continuation.begin(), request.continuation.end());
  const OwnedTensor logits = sequence_logits(tiny.model, tiny.store, ids, backend);
  const auto vocab = static_cast<size_t>(logits.view().shape().last());
  Likelihood sum{0, true};
  for (size_t i = request.context.size(); i < ids.size(); ++i) {
    const auto row = logits.as<float>().subspan((i - 1) * vocab, vocab);
    double total = 0;
    for (const float z : row) total += std::exp(static_cast<double>(z));
    const auto token = static_cast<size_t>(ids[i]);
    sum.log_probability += static_cast<double>(row[token]) - std::log(total);
    sum.greedy =
        sum.greedy && static_cast<size_t>(std::ranges::max_element(row) - row.begin()) == token;
  }
  return sum;
}

std::vector<int32_t> random_tokens(const Random& random, uint64_t stream, size_t n) {
  std::vector<int32_t> tokens;
  for (size_t i = 0; i < n; ++i)
    tokens.push_back(static_cast<int32_t>(random.below(1000 * stream + i, 61)));
  return tokens;
}

// Questions behind one of two sets of examples, each with answers of several lengths.
std::vector<Continuation> questions() {
  const Random random(3, Purpose::test);
  std::vector<Continuation> all;
  uint64_t stream = 0;
  for (const size_t examples : {size_t{20}, size_t{9}}) {
    const auto prefix = random_tokens(random, ++stream, examples);
    for (int question = 0; question < 4; ++question) {
      auto context = prefix;
      ++stream;
      const auto own = random_tokens(random, stream, 1 + random.below(9000 + stream, 6));
      context.insert(context.end(), own.begin(), own.end());
      for (const size_t length : {size_t{1}, size_t{1}, size_t{3}})
        all.push_back({context, random_tokens(random, ++stream, length)});
    }
  }
  all.push_back({{5}, random_tokens(random, ++stream, 20)});
  all.push_back(all.front());
  return all;
}

}  // namespace

TEST_SUITE_BEGIN("likelihood");

TEST_CASE("likelihoods are those of whole sequences, for any number of slots") {
  const TinyLlama tiny(adapter_kind("mora", "rotation").config);
  const auto backend = backend_under_test();
  const std::vector<Continuation> requests = questions();
  for (const int64_t slots : {1, 2, 3, 8, 40}) {
    INFO(slots);
    Workspace workspace;
    LikelihoodScorer scorer(tiny.model, tiny.store, slots, 40, *backend, workspace);
    for (int again = 0; again < 2; ++again) {
      const auto found = scorer.score(requests);
      REQUIRE(found.size() == requests.size());
      for (size_t i = 0; i < found.size(); ++i) {
        const Likelihood e = expected(tiny, *backend, requests[i]);
        CHECK(found[i].log_probability == doctest::Approx(e.log_probability).epsilon(1e-5));
        CHECK(found[i].greedy == e.greedy);
      }
    }
  }
}

TEST_CASE("the most likely continuation is found greedy") {
  const TinyLlama tiny(adapter_kind("lora").config);
  const auto backend = backend_under_test();
  const std::vector<int32_t> context = {1, 2, 3};
  const OwnedTensor logits = sequence_logits(tiny.model, tiny.store, context, *backend);
  const auto row = logits.as<float>().subspan(2 * 61, 61);
  const auto best = static_cast<int32_t>(std::ranges::max_element(row) - row.begin());
  Workspace workspace;
  LikelihoodScorer scorer(tiny.model, tiny.store, 2, 16, *backend, workspace);
  const auto found =
      scorer.score(std::vector<Continuation>{{context, {best}}, {context, {(best + 1) % 61}}});
  CHECK(found[0].greedy);
  CHECK_FALSE(found[1].greedy);
}

TEST_CASE("what is shared is read once") {
  const TinyLlama tiny(adapter_kind("lora").config);
  const auto backend = backend_under_test();
  const Random random(4, Purpose::test);
  const auto prefix = random_tokens(random, 1, 40);
  std::vector<Continuation> requests;
  for (uint64_t i = 0; i < 12; ++i) {
    auto context = prefix;
    context.push_back(static_cast<int32_t>(i));
    requests.push_back({context, {7}});
  }
  Workspace workspace;
  LikelihoodScorer scorer(tiny.model, tiny.store, 4, 50, *backend, workspace);
  scorer.score(requests);
  CHECK(scorer.tokens_read() == 40 + 12);
}

TEST_CASE("long sequences lose their front; what cannot be is an error") {
  const TinyLlama tiny(adapter_kind("lora").config);
  const auto backend = backend_under_test();
  const Random random(5, Purpose::test);
  Workspace workspace;
  LikelihoodScorer scorer(tiny.model, tiny.store, 2, 10, *backend, workspace);
  const auto context = random_tokens(random, 1, 30);
  const std::vector<int32_t> answer = {4, 9};
  // 31 tokens are read for it, of which the last 10 fit.
  const std::vector<int32_t> end(context.end() - 9, context.end());
  const auto found = scorer.score(std::vector<Continuation>{{context, answer}, {end, answer}});
  CHECK(found[0].log_probability == doctest::Approx(found[1].log_probability).epsilon(1e-6));
  const auto refused = [&](const Continuation& request) {
    return message_of(ErrorKind::data, [&] { scorer.score(std::vector<Continuation>{request}); });
  };
  CHECK(refused({{1}, random_tokens(random, 2, 11)}).find("11 tokens") != std::string::npos);
  CHECK(refused({{61}, {1}}).find("token 61") != std::string::npos);
  CHECK(refused({{1}, {-1}}).find("token -1") != std::string::npos);
  CHECK_THROWS_AS(LikelihoodScorer(tiny.model, tiny.store, 1, 65, *backend, workspace), Error);
}

TEST_SUITE_END();

}  // namespace mora::testing
