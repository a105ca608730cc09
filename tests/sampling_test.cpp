// Choosing tokens: transformers' processors in their order, frequencies against probabilities, and
// that a text depends on its prompt, settings and seed only.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "backend_under_test.hpp"
#include "mora/core/parallel.hpp"
#include "mora/eval/generator.hpp"
#include "temporary_folder.hpp"
#include "tiny_llama.hpp"

namespace mora::testing {
namespace {

int32_t choose(std::vector<double> logits, const Sampling& s, std::vector<int32_t> seen = {},
               uint32_t sample = 0, uint64_t position = 0) {
  return choose_token(logits, s, seen, sample, position);
}

std::vector<double> random_logits(uint64_t which, size_t n) {
  const Random random(17, Purpose::test, static_cast<uint32_t>(which));
  std::vector<double> z(n);
  for (size_t i = 0; i < n; ++i) z[i] = 3 * random.normal(i);
  return z;
}

int32_t largest(const std::vector<double>& z) {
  return static_cast<int32_t>(std::ranges::max_element(z) - z.begin());
}

// Tokens that appear among many draws.
std::set<int32_t> support(const std::vector<double>& logits, const Sampling& s,
                          const std::vector<int32_t>& seen = {}) {
  std::set<int32_t> result;
  for (uint64_t i = 0; i < 4000; ++i) result.insert(choose(logits, s, seen, 0, i));
  return result;
}

struct TinyGenerator {
  TinyLlama tiny{adapter_kind("full").config};
  std::unique_ptr<Backend> backend = backend_under_test();
  Workspace workspace;

  using Texts = std::vector<std::vector<int32_t>>;

  Texts generate(const Texts& prompts, const GenerateOptions& options, int64_t batch) {
    Generator generator(tiny.model, tiny.store, {batch, 60}, *backend, workspace);
    return generator.generate(prompts, options);
  }
};

const TinyGenerator::Texts kPrompts = {
    {1, 5, 9}, {2}, {7, 7, 7, 7, 8, 1, 0, 3, 11, 12}, {60, 1}, {5, 4, 3, 2, 1}};

}  // namespace

TEST_SUITE_BEGIN("sampling");

TEST_CASE("a temperature near 0, and top_k of 1, are greedy") {
  for (uint64_t i = 0; i < 200; ++i) {
    const auto z = random_logits(i, 50);
    CHECK(choose(z, {}) == largest(z));
    CHECK(choose(z, {.temperature = 1e-6}, {}, 0, i) == largest(z));
    CHECK(choose(z, {.temperature = 1e-300}, {}, 0, i) == largest(z));
    CHECK(choose(z, {.temperature = 5, .top_k = 1}, {}, 0, i) == largest(z));
    CHECK(choose(z, {.temperature = 5, .top_p = 1e-9}, {}, 0, i) == largest(z));
  }
  CHECK(choose({1, 3, 3, 2}, {}) == 1);  // ties go to the lower token
}

TEST_CASE("frequencies are the probabilities (chi-square)") {
  const std::vector<double> z = {0.3, -1.2, 2.0, 0.0, 1.1, -0.4};
  for (const double temperature : {0.5, 1.0, 2.0}) {
    INFO(temperature);
    std::vector<double> p;
    double total = 0;
    for (const double v : z) total += std::exp(v / temperature);
    for (const double v : z) p.push_back(std::exp(v / temperature) / total);
    const int n = 20000;
    std::vector<int> count(z.size(), 0);
    for (int i = 0; i < n; ++i) {
      const Sampling s{.temperature = temperature, .seed = 9};
      ++count[static_cast<size_t>(
          choose(z, s, {}, static_cast<uint32_t>(i % 7), static_cast<uint64_t>(i)))];
    }
    double chi = 0;
    for (size_t k = 0; k < z.size(); ++k)
      chi += (count[k] - n * p[k]) * (count[k] - n * p[k]) / (n * p[k]);
    CHECK(chi < 20.5);  // 5 degrees of freedom: 0.1% of honest samplers are above
    CHECK(chi > 0.05);
  }
}

TEST_CASE("top_k keeps the k largest and what ties with the last of them") {
  const std::vector<double> z = {1, 4, 2, 4, 3, 0};
  CHECK(support(z, {.temperature = 2, .top_k = 2}) == std::set<int32_t>{1, 3});
  CHECK(support(z, {.temperature = 2, .top_k = 3}) == std::set<int32_t>{1, 3, 4});
  CHECK(support({1, 4, 3, 4, 3, 0}, {.temperature = 2, .top_k = 3}) ==
        std::set<int32_t>{1, 2, 3, 4});
  CHECK(support(z, {.temperature = 2, .top_k = 99}).size() == 6);
}

TEST_CASE("top_p keeps the fewest likely tokens that reach it, after temperature and top_k") {
  const auto logits = [](std::vector<double> p) {
    for (double& v : p) v = std::log(v);
    return p;
  };
  const auto z = logits({0.05, 0.4, 0.1, 0.3, 0.15});
  CHECK(support(z, {.temperature = 1, .top_p = 0.39}) == std::set<int32_t>{1});
  CHECK(support(z, {.temperature = 1, .top_p = 0.41}) == std::set<int32_t>{1, 3});
  CHECK(support(z, {.temperature = 1, .top_p = 0.71}) == std::set<int32_t>{1, 3, 4});
  CHECK(support(z, {.temperature = 1, .top_p = 0.96}) == std::set<int32_t>{0, 1, 2, 3, 4});
  // Of the two that top_k leaves, the first has 4/7; at temperature 0.5 it has 16/25.
  CHECK(support(z, {.temperature = 1, .top_k = 2, .top_p = 0.56}) == std::set<int32_t>{1});
  CHECK(support(z, {.temperature = 1, .top_k = 2, .top_p = 0.6}) == std::set<int32_t>{1, 3});
  CHECK(support(z, {.temperature = 0.5, .top_k = 2, .top_p = 0.6}) == std::set<int32_t>{1});
}

TEST_CASE("the repetition penalty divides positive and multiplies negative logits, once a token") {
  CHECK(choose({2.0, 1.5}, {.repetition_penalty = 1.3}, {0}) == 0);
  CHECK(choose({2.0, 1.5}, {.repetition_penalty = 1.4}, {0}) == 1);
  CHECK(choose({2.0, 1.5}, {.repetition_penalty = 1.3}, {0, 0, 0}) == 0);
  CHECK(choose({-1.0, -1.5}, {.repetition_penalty = 1.6}, {0}) == 1);
  CHECK(choose({-1.0, -1.5}, {.repetition_penalty = 1.4}, {0}) == 0);
}

TEST_CASE("settings outside their ranges, and logits that are no numbers, are errors") {
  const double nan = std::nan("");
  for (const Sampling& s :
       {Sampling{.temperature = -1}, Sampling{.temperature = nan}, Sampling{.top_k = -1},
        Sampling{.top_p = 0}, Sampling{.top_p = 1.1}, Sampling{.top_p = nan},
        Sampling{.repetition_penalty = 0}, Sampling{.repetition_penalty = nan}}) {
    CHECK(message_of(ErrorKind::usage, [&] { check_sampling(s); }).find("expected") !=
          std::string::npos);
  }
  message_of(ErrorKind::numerical, [&] { choose({nan, nan}, {}); });
  CHECK(choose({nan, 1, 2}, {}) == 2);
}

TEST_CASE("a text depends on prompt and seed, not on the batch or the threads") {
  TinyGenerator tiny;
  const int threads = thread_count();
  for (const Sampling& s : {Sampling{}, Sampling{.temperature = 1.3, .seed = 4},
                            Sampling{.temperature = 0.9,
                            .top_k = 20,
                            .top_p = 0.95,
                            .repetition_penalty = 1.2,
                            .seed = 5}}) {
    const GenerateOptions options{.max_new_tokens = 30, .sampling = s};
    const auto expected = tiny.generate(kPrompts, options, 1);
    for (const int64_t batch : {2, 3, 5, 8}) {
      INFO(batch);
      CHECK(tiny.generate(kPrompts, options, batch) == expected);
    }
    for (const int count : {1, 3}) {
      set_thread_count(count);
      CHECK(tiny.generate(kPrompts, options, 4) == expected);
    }
    set_thread_count(threads);
    GenerateOptions third = options;
    third.first_sample = 2;
    CHECK(tiny.generate({kPrompts[2]}, third, 1)[0] == expected[2]);
    GenerateOptions other = options;
    other.sampling.seed += 1;
    CHECK((tiny.generate(kPrompts, other, 1) == expected) == (s.temperature == 0));
  }
}

TEST_CASE("greedy with caches equals reading the whole text again for every token") {
  TinyGenerator tiny;
  const auto expected = tiny.generate(kPrompts, {.max_new_tokens = 25}, 5);
  for (size_t p = 0; p < kPrompts.size(); ++p) {
    std::vector<int32_t> text = kPrompts[p];
    for (int i = 0; i < 25; ++i)
      text.push_back(tiny.generate({text}, {.max_new_tokens = 1}, 1)[0][0]);
    CHECK(std::vector<int32_t>(text.begin() + static_cast<std::ptrdiff_t>(kPrompts[p].size()),
                               text.end()) == expected[p]);
  }
}

TEST_CASE("a conversation that reuses the caches says what a fresh one does") {
  TinyGenerator tiny;
  Generator generator(tiny.tiny.model, tiny.tiny.store, {1, 60}, *tiny.backend, tiny.workspace);
  std::vector<int32_t> text = {3, 1, 4};
  for (int turn = 0; turn < 4; ++turn) {
    const int64_t before = generator.times().prefill_tokens;
    const auto made =
        generator.generate(std::array{text}, {.max_new_tokens = 6, .cache = CacheUse::reuse})[0];
    CHECK(made == tiny.generate({text}, {.max_new_tokens = 6}, 1)[0]);
    CHECK(generator.times().prefill_tokens - before == (turn == 0 ? 3 : 4));
    text.insert(text.end(), made.begin(), made.end());
    text.insert(text.end(), {turn, 9, 2});  // the answer's last token was not read yet
  }
  text.resize(5);  // an earlier text again
  CHECK(generator.generate(std::array{text}, {.max_new_tokens = 6, .cache = CacheUse::reuse}) ==
        tiny.generate({text}, {.max_new_tokens = 6}, 1));
}

TEST_CASE(
    "any of the end tokens ends a continuation, which keeps it, and callbacks see every token") {
  TinyGenerator tiny;
  const auto all = tiny.generate(kPrompts, {.max_new_tokens = 20}, 5);
  const int32_t a = all[0][3], b = all[2][5];
  std::vector<std::vector<int32_t>> seen(kPrompts.size());
  GenerateOptions options{.max_new_tokens = 20};
  options.ends = {a, b};
  options.finished = [&](size_t p, std::span<const int32_t> made) {
    seen[p].push_back(made.back());
    return false;
  };
  const auto cut = tiny.generate(kPrompts, options, 2);
  for (size_t p = 0; p < cut.size(); ++p) {
    auto end = std::ranges::find_if(all[p], [&](int32_t t) { return t == a || t == b; });
    if (end != all[p].end()) ++end;
    CHECK(cut[p] == std::vector<int32_t>(all[p].begin(), end));
    CHECK(seen[p] == cut[p]);
  }
}

TEST_CASE("each prompt ends at its own limit, and needs no more room than that") {
  TinyGenerator tiny;
  const auto all = tiny.generate(kPrompts, {.max_new_tokens = 20}, 5);
  const GenerateOptions options{.max_new_tokens = 20, .limits = {5, 20, 1, 99, 7}};
  for (const int64_t batch : {1, 2, 5}) {
    const auto cut = tiny.generate(kPrompts, options, batch);
    for (size_t p = 0; p < cut.size(); ++p) {
      const auto most = static_cast<std::ptrdiff_t>(options.limit(p));
      CHECK(cut[p] == std::vector<int32_t>(all[p].begin(), all[p].begin() + most));
    }
  }
  const TinyGenerator::Texts uneven = {std::vector<int32_t>(50, 1), {2}};
  const auto full = tiny.generate(uneven, {.max_new_tokens = 59, .limits = {10, 59}}, 2);
  CHECK(full[0].size() == 10);
  CHECK(full[1].size() == 59);
}

TEST_CASE("what does not fit, or is no token of the model, is an error") {
  TinyGenerator tiny;
  CHECK(message_of(ErrorKind::data, [&] {
          tiny.generate({std::vector<int32_t>(50, 1)}, {.max_new_tokens = 11}, 1);
        }).find("do not fit") != std::string::npos);
  CHECK(message_of(ErrorKind::data, [&] {
          tiny.generate({{1, 61}}, {.max_new_tokens = 1}, 1);
        }).find("token 61") != std::string::npos);
}

TEST_SUITE_END();

}  // namespace mora::testing
