// The order and the boundary cases are those of transformers' logits processors; probabilities are
// computed in double precision.
#include "mora/eval/sampling.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "mora/core/error.hpp"
#include "mora/core/random.hpp"

namespace mora {

namespace {

struct Candidate {
  double weight;  // exp((logit - largest) / temperature)
  int32_t token;
};

void penalise(std::span<double> logits, double penalty, std::span<const int32_t> seen) {
  std::vector<int32_t> once(seen.begin(), seen.end());
  std::ranges::sort(once);
  once.erase(std::unique(once.begin(), once.end()), once.end());
  for (const int32_t token : once) {
    double& z = logits[static_cast<size_t>(token)];
    z = z < 0 ? z * penalty : z / penalty;
  }
}

std::vector<Candidate> candidates(std::span<const double> logits, const Sampling& s,
                                  double largest) {
  double least = -std::numeric_limits<double>::infinity();
  if (s.top_k > 0 && static_cast<size_t>(s.top_k) < logits.size()) {
    std::vector<double> order(logits.begin(), logits.end());
    const auto kth = order.begin() + (s.top_k - 1);
    std::ranges::nth_element(order, kth, std::greater<>());
    least = *kth;
  }
  std::vector<Candidate> result;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] >= least)) continue;
    const double weight = std::exp((logits[i] - largest) / s.temperature);
    if (weight > 0) result.push_back({weight, static_cast<int32_t>(i)});
  }
  return result;
}

double total_of(std::span<const Candidate> all) {
  double total = 0;
  for (const Candidate& c : all) total += c.weight;
  return total;
}

// Keeps the most likely tokens up to the one with which their probability reaches top_p.
void keep_top_p(std::vector<Candidate>& all, double top_p) {
  const double total = total_of(all);
  // All that this leaves out together has no more than 1 - top_p, so that sorting is over few.
  const double floor = total * (1 - top_p) / static_cast<double>(all.size());
  std::erase_if(all, [&](const Candidate& c) { return c.weight < floor; });
  std::ranges::sort(all, [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  size_t kept = 0;
  for (double before = 0; kept < all.size() && (kept == 0 || before < top_p * total); ++kept)
    before += all[kept].weight;
  all.resize(kept);
}

}  // namespace

void check_sampling(const Sampling& s) {
  const auto need = [](bool holds, const char* name, double value, const char* range) {
    if (!holds) fail(ErrorKind::usage, name, " is ", value, ", expected ", range);
  };
  need(s.temperature >= 0 && std::isfinite(s.temperature), "temperature", s.temperature,
       "a number of 0 or more");
  need(s.top_k >= 0, "top_k", static_cast<double>(s.top_k), "an integer of 0 or more");
  need(s.top_p > 0 && s.top_p <= 1, "top_p", s.top_p, "a number above 0 and up to 1");
  need(s.repetition_penalty > 0 && std::isfinite(s.repetition_penalty), "repetition_penalty",
       s.repetition_penalty, "a number above 0");
}

int32_t choose_token(std::span<double> logits, const Sampling& s, std::span<const int32_t> seen,
                     uint32_t sample, uint64_t position) {
  if (s.repetition_penalty != 1) penalise(logits, s.repetition_penalty, seen);
  const auto best = std::ranges::max_element(
      logits, [](double a, double b) { return a < b || (std::isnan(a) && !std::isnan(b)); });
  if (!std::isfinite(*best)) {
    fail(ErrorKind::numerical,
         "the model's logits are not numbers; the weights, or an adapter's, "
         "are damaged or overflow");
  }
  if (s.temperature == 0) return static_cast<int32_t>(best - logits.begin());
  std::vector<Candidate> all = candidates(logits, s, *best);
  if (s.top_p < 1) keep_top_p(all, s.top_p);
  const double total = total_of(all);
  const double at = Random(s.seed, Purpose::sampling, sample).uniform(position) * total;
  double sum = 0;
  for (const Candidate& c : all) {
    sum += c.weight;
    if (at < sum) return c.token;
  }
  return all.back().token;  // rounding left `at` at the very end
}

}  // namespace mora
