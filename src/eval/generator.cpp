// A prompt's row in the caches is its place in its group; a group is as many prompts as fit a
// batch.
#include "mora/eval/generator.hpp"

#include <algorithm>
#include <chrono>
#include <map>

#include "eval/cached_pass.hpp"

namespace mora {

namespace {

// A run over few tokens costs as much as one over all that its plan takes.
constexpr std::array<int64_t, 4> kPrefillTokens = {8, 32, 128, 512};

void append(const Tensor& logits, size_t row, std::vector<double>& out) {
  const auto n = static_cast<size_t>(logits.shape().last());
  const auto copy = [&](auto z) { out.assign(z.begin() + row * n, z.begin() + (row + 1) * n); };
  if (logits.dtype() == DType::f64) {
    copy(logits.as<double>());
  } else {
    copy(logits.as<float>());
  }
}

}  // namespace

struct Generator::Impl {
  const Llama& model;
  GeneratorShape shape;
  const Backend& backend;
  Workspace& workspace;
  Caches caches;
  std::map<int64_t, CachedPass> prefills;
  CachedPass decode;
  std::vector<std::vector<int32_t>> cached;  // tokens of each row of the caches
  GenerateTimes times;
  std::vector<double> logits;

  Impl(const Llama& m, const ParameterStore& store, const GeneratorShape& s, const Backend& b,
       Workspace& w)
      : model(m),
        shape(s),
        backend(b),
        workspace(w),
        caches(m, store, s.batch_size, s.capacity),
        decode(m, caches, s.batch_size, s.batch_size, b, w),
        cached(static_cast<size_t>(s.batch_size)) {}

  // The smallest prefill that takes `tokens` at once, or the largest there is.
  CachedPass& prefill_for(int64_t tokens) {
    const auto at = std::ranges::lower_bound(kPrefillTokens, tokens);
    const int64_t size = at == kPrefillTokens.end() ? kPrefillTokens.back() : *at;
    return prefills.try_emplace(size, model, caches, size, shape.batch_size, backend, workspace)
        .first->second;
  }

  static void run(CachedPass& pass, double& seconds) {
    const auto start = std::chrono::steady_clock::now();
    pass.run();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  // A group of prompts on its way.
  struct Group {
    std::span<const std::vector<int32_t>> prompts;
    const GenerateOptions& options;
    size_t first;                            // number of the first prompt in its call
    std::vector<std::vector<int32_t>> seen;  // prompt and continuation
    std::vector<int32_t> next;
  };

  int32_t choose(const Tensor& all, size_t row, const Group& g) {
    append(all, row, logits);
    return choose_token(logits, g.options.sampling, g.seen[row],
                        g.options.first_sample + static_cast<uint32_t>(g.first + row),
                        g.seen[row].size() - g.prompts[row].size());
  }
  bool ends(const Group& g, size_t p) const;
  void read_prompts(Group& group);
  std::vector<std::vector<int32_t>> run(Group& group);
};

// Reads all prompts into the caches and chooses the token that follows each.
void Generator::Impl::read_prompts(Group& g) {
  struct Row {
    size_t prompt, position;
  };
  std::vector<Row> rows;
  for (size_t p = 0; p < g.prompts.size(); ++p) {
    const std::vector<int32_t>& prompt = g.prompts[p];
    size_t from = 0;
    if (g.options.cache == CacheUse::reuse) {
      const auto differ = std::ranges::mismatch(prompt, cached[p]).in1;
      from = std::min(static_cast<size_t>(differ - prompt.begin()), prompt.size() - 1);
    }
    for (size_t i = from; i < prompt.size(); ++i) rows.push_back({p, i});
  }
  for (std::vector<int32_t>& tokens : cached) tokens.clear();
  for (size_t begin = 0; begin < rows.size();) {
    CachedPass& pass = prefill_for(static_cast<int64_t>(rows.size() - begin));
    const size_t count = std::min(rows.size() - begin, static_cast<size_t>(pass.tokens()));
    pass.clear_from(static_cast<int64_t>(count));
    std::vector<size_t> complete;  // prompts whose last token is in this run
    for (size_t r = 0; r < count; ++r) {
      const auto [p, i] = rows[begin + r];
      pass.set(static_cast<int64_t>(r), g.prompts[p][i], static_cast<int64_t>(i),
               static_cast<int64_t>(p));
      if (i + 1 < g.prompts[p].size()) continue;
      pass.choose(static_cast<int64_t>(p), static_cast<int64_t>(r));
      complete.push_back(p);
    }
    run(pass, times.prefill_seconds);
    for (const size_t p : complete) g.next[p] = choose(pass.logits(), p, g);
    begin += count;
  }
  times.prefill_tokens += static_cast<int64_t>(rows.size());
}

bool Generator::Impl::ends(const Group& g, size_t p) const {
  const std::span<const int32_t> made = std::span(g.seen[p]).subspan(g.prompts[p].size());
  // Every condition is asked, so that a caller who follows the tokens sees the last one, too.
  const bool finished = g.options.finished && g.options.finished(g.first + p, made);
  return finished || static_cast<int64_t>(made.size()) >= g.options.limit(g.first + p) ||
         std::ranges::find(g.options.ends, made.back()) != g.options.ends.end();
}

std::vector<std::vector<int32_t>> Generator::Impl::run(Group& g) {
  read_prompts(g);
  std::vector<uint8_t> done(g.prompts.size(), 0);
  decode.clear_from(0);
  for (int64_t row = 0; row < shape.batch_size; ++row) decode.choose(row, row);
  for (size_t left = g.prompts.size(); left > 0;) {
    for (size_t p = 0; p < g.prompts.size(); ++p) {
      if (done[p]) continue;
      const auto position = static_cast<int64_t>(g.seen[p].size());
      g.seen[p].push_back(g.next[p]);
      done[p] = ends(g, p);
      left -= done[p];
      decode.set(static_cast<int64_t>(p), g.next[p], position,
                 done[p] ? -1 : static_cast<int64_t>(p));
    }
    if (left == 0) break;
    run(decode, times.decode_seconds);
    times.decode_tokens += static_cast<int64_t>(left);
    for (size_t p = 0; p < g.prompts.size(); ++p) {
      if (!done[p]) g.next[p] = choose(decode.logits(), p, g);
    }
  }
  std::vector<std::vector<int32_t>> made;
  for (size_t p = 0; p < g.prompts.size(); ++p) {
    made.emplace_back(g.seen[p].begin() + static_cast<std::ptrdiff_t>(g.prompts[p].size()),
                      g.seen[p].end());
    g.seen[p].pop_back();  // the last token was never read
    cached[p] = std::move(g.seen[p]);
  }
  return made;
}

Generator::Generator(const Llama& model, const ParameterStore& store, const GeneratorShape& shape,
                     const Backend& backend, Workspace& workspace)
    : impl_(std::make_unique<Impl>(model, store, shape, backend, workspace)) {}
Generator::~Generator() = default;

const GenerateTimes& Generator::times() const {
  return impl_->times;
}

std::vector<std::vector<int32_t>> Generator::generate(std::span<const std::vector<int32_t>> prompts,
                                                      const GenerateOptions& options) {
  ensure(options.limits.empty() || options.limits.size() == prompts.size(),
         "a limit for each prompt, or none");
  check_sampling(options.sampling);
  const int64_t vocab = impl_->model.config().vocab_size;
  for (size_t p = 0; p < prompts.size(); ++p) {
    const std::vector<int32_t>& prompt = prompts[p];
    const int64_t limit = options.limit(p);
    ensure(!prompt.empty(), "a prompt is empty");
    ensure(limit >= 1, "a prompt takes at least 1 new token");
    if (static_cast<int64_t>(prompt.size()) + limit > impl_->shape.capacity) {
      fail(ErrorKind::data, "a prompt of ", prompt.size(), " tokens and ", limit,
           " new ones do not fit the cache of ", impl_->shape.capacity);
    }
    for (const int32_t token : prompt) {
      if (token < 0 || token >= vocab)
        fail(ErrorKind::data, "a prompt has token ", token, ", but the model has ", vocab);
    }
  }
  std::vector<std::vector<int32_t>> continuations;
  const auto batch = static_cast<size_t>(impl_->shape.batch_size);
  for (size_t begin = 0; begin < prompts.size(); begin += batch) {
    const auto part = prompts.subspan(begin, std::min(batch, prompts.size() - begin));
    Impl::Group group{
        part, options, begin, {part.begin(), part.end()}, std::vector<int32_t>(part.size())};
    for (auto& made : impl_->run(group)) continuations.push_back(std::move(made));
  }
  return continuations;
}

}  // namespace mora
