// Requests are sorted by their tokens, so that neighbours share the most; as many as there are
// slots are read together. What all of them share is read into the first slot and copied.
#include "mora/eval/likelihood.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "eval/cached_pass.hpp"

namespace mora {

namespace {

constexpr int64_t kPassTokens = 256, kPassRows = 64;

// A request as one sequence; the logits behind tokens [first, end) predict its continuation.
struct Sequence {
  std::vector<int32_t> tokens;  // without the last token, which nothing follows
  std::vector<int32_t> continuation;
  size_t first = 0;
};

size_t shared(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

template <class T>
void add_token(std::span<const T> logits, int32_t token, Likelihood& sum) {
  const T largest = *std::ranges::max_element(logits);
  double total = 0;
  for (const T z : logits) total += std::exp(static_cast<double>(z) - static_cast<double>(largest));
  const T own = logits[static_cast<size_t>(token)];
  sum.log_probability += static_cast<double>(own) - static_cast<double>(largest) - std::log(total);
  // The first of equals, as argmax.
  const auto best = std::ranges::max_element(logits) - logits.begin();
  sum.greedy = sum.greedy && best == token;
}

}  // namespace

struct LikelihoodScorer::Impl {
  const Llama& model;
  Caches caches;
  CachedPass pass;
  std::vector<std::vector<int32_t>> held;  // tokens of each slot
  int64_t read = 0;

  // What a pass reads: the token at `position` of a slot's sequence.
  struct Row {
    size_t slot, position;
  };

  Impl(const Llama& m, const ParameterStore& store, int64_t slots, int64_t capacity,
       const Backend& backend, Workspace& workspace)
      : model(m),
        caches(m, store, slots, capacity),
        pass(m, caches, kPassTokens, kPassRows, backend, workspace),
        held(static_cast<size_t>(slots)) {}

  Sequence sequence_of(const Continuation& request) const;
  std::vector<Row> prepare(std::span<const Sequence* const> batch);
  void run(std::span<const Row> rows, std::span<const Sequence* const> batch,
           std::span<Likelihood* const> results);
};

Sequence LikelihoodScorer::Impl::sequence_of(const Continuation& request) const {
  ensure(!request.context.empty() && !request.continuation.empty(), "an empty likelihood request");
  Sequence s{.tokens = request.context, .continuation = request.continuation, .first = 0};
  s.tokens.insert(s.tokens.end(), s.continuation.begin(), s.continuation.end());
  for (const int32_t token : s.tokens) {
    if (token < 0 || token >= model.config().vocab_size)
      fail(ErrorKind::data, "a request has token ", token, ", but the model has ",
           model.config().vocab_size);
  }
  s.tokens.pop_back();
  const auto capacity = static_cast<size_t>(caches.capacity());
  if (s.continuation.size() > capacity) {
    fail(ErrorKind::data, "a continuation of ", s.continuation.size(),
         " tokens does not fit the model's ", capacity);
  }
  if (s.tokens.size() > capacity)
    s.tokens.erase(s.tokens.begin(), s.tokens.end() - static_cast<std::ptrdiff_t>(capacity));
  s.first = s.tokens.size() - s.continuation.size();
  return s;
}

// Puts what the batch shares into all slots and says what is left to read.
std::vector<LikelihoodScorer::Impl::Row> LikelihoodScorer::Impl::prepare(
    std::span<const Sequence* const> batch) {
  // Logits are needed from `first` on, so that much of every sequence is read anew.
  size_t common = batch.front()->first;
  for (const Sequence* s : batch)
    common = std::min({common, s->first, shared(batch.front()->tokens, s->tokens)});
  const std::span<const int32_t> prefix = std::span(batch.front()->tokens).first(common);
  std::vector<Row> rows;
  const size_t known = shared(held[0], prefix);
  if (batch.size() > 1 && known < common) {
    for (size_t i = known; i < common; ++i) rows.push_back({0, i});
    run(rows, batch.first(1), {});
    held[0].assign(prefix.begin(), prefix.end());
    rows.clear();
  }
  for (size_t slot = 0; slot < batch.size(); ++slot) {
    const Sequence& s = *batch[slot];
    size_t from = std::min(shared(held[slot], s.tokens), s.first);
    if (from < common) {
      if (slot > 0) {
        caches.copy(0, static_cast<int64_t>(slot), static_cast<int64_t>(common));
        from = common;
      }
    }
    for (size_t i = from; i < s.tokens.size(); ++i) rows.push_back({slot, i});
  }
  return rows;
}

// Reads the rows, and adds up the log-probabilities where there are results to add to.
void LikelihoodScorer::Impl::run(std::span<const Row> rows, std::span<const Sequence* const> batch,
                                 std::span<Likelihood* const> results) {
  struct Wanted {
    size_t slot;
    int32_t token;
  };
  while (!rows.empty()) {
    std::vector<Wanted> wanted;
    size_t count = 0;
    pass.clear_from(0);
    for (; count < rows.size() && count < static_cast<size_t>(kPassTokens); ++count) {
      const auto [slot, position] = rows[count];
      const Sequence& s = *batch[slot];
      const bool predicts = !results.empty() && position >= s.first;
      if (predicts && wanted.size() == static_cast<size_t>(kPassRows)) break;
      pass.set(static_cast<int64_t>(count), s.tokens[position], static_cast<int64_t>(position),
               static_cast<int64_t>(slot));
      if (!predicts) continue;
      pass.choose(static_cast<int64_t>(wanted.size()), static_cast<int64_t>(count));
      wanted.push_back({slot, s.continuation[position - s.first]});
    }
    pass.run();
    const Tensor logits = pass.logits();
    const auto vocab = static_cast<size_t>(logits.shape().last());
    for (size_t i = 0; i < wanted.size(); ++i) {
      Likelihood& result = *results[wanted[i].slot];
      if (logits.dtype() == DType::f64) {
        add_token<double>(logits.as<double>().subspan(i * vocab, vocab), wanted[i].token, result);
      } else {
        add_token<float>(logits.as<float>().subspan(i * vocab, vocab), wanted[i].token, result);
      }
    }
    read += static_cast<int64_t>(count);
    rows = rows.subspan(count);
  }
}

LikelihoodScorer::LikelihoodScorer(const Llama& model, const ParameterStore& store, int64_t slots,
                                   int64_t capacity, const Backend& backend, Workspace& workspace)
    : impl_(std::make_unique<Impl>(model, store, slots, capacity, backend, workspace)) {}
LikelihoodScorer::~LikelihoodScorer() = default;

int64_t LikelihoodScorer::tokens_read() const {
  return impl_->read;
}

std::vector<Likelihood> LikelihoodScorer::score(std::span<const Continuation> requests) {
  std::vector<Sequence> sequences;
  for (const Continuation& request : requests) sequences.push_back(impl_->sequence_of(request));
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(
      order, {}, [&](size_t i) -> const std::vector<int32_t>& { return sequences[i].tokens; });
  std::vector<Likelihood> results(requests.size(), {0, true});
  const size_t slots = impl_->held.size();
  for (size_t begin = 0; begin < order.size(); begin += slots) {
    std::vector<const Sequence*> batch;
    std::vector<Likelihood*> into;
    for (size_t i = begin; i < std::min(order.size(), begin + slots); ++i) {
      batch.push_back(&sequences[order[i]]);
      into.push_back(&results[order[i]]);
    }
    impl_->run(impl_->prepare(batch), batch, into);
    for (size_t slot = 0; slot < batch.size(); ++slot) impl_->held[slot] = batch[slot]->tokens;
  }
  for (const Likelihood& r : results) {
    if (!std::isfinite(r.log_probability))
      fail(ErrorKind::numerical, "the model's logits are not numbers");
  }
  return results;
}

}  // namespace mora
