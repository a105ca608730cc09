#include "mora/eval/generator.hpp"

#include <algorithm>
#include <deque>

namespace mora {

namespace {

// One graph over `tokens` new tokens; logits of one chosen token per sequence.
struct CachedGraph {
  OwnedTensor tokens, positions, slots, chosen;  // chosen: [batch] rows whose logits are wanted
  Graph graph;
  Var logits;  // [batch, V]

  CachedGraph(const Llama& model, std::deque<OwnedTensor>& caches, int64_t count, int64_t batch)
      : tokens({DType::i32, {count}}),
        positions({DType::i32, {count}}),
        slots({DType::i32, {count}}),
        chosen({DType::i32, {batch}}) {
    Context context(graph);
    auto bind = [&](const OwnedTensor& t, const char* name) { return graph.bind(t.view(), name); };
    const Var at = bind(positions, "positions"), slot = bind(slots, "slots");
    const Attend attend = [&](int64_t layer, Var q, Var k, Var v) {
      const auto first = static_cast<size_t>(2 * layer);
      const Var k_cache = bind(caches[first], "k_cache"),
                v_cache = bind(caches[first + 1], "v_cache");
      cache_write(k_cache, k, slot, at);
      cache_write(v_cache, v, slot, at);
      return cached_attention(q, k_cache, v_cache, slot, at, model.attention_attrs());
    };
    const Var h = model.hidden(context, bind(tokens, "tokens"), at, attend);
    logits = matmul(embedding(h, bind(chosen, "chosen")), model.output_weight(context),
                    {.tb = Transpose::yes});
  }

  void set(int64_t row, int32_t token, int64_t position, int64_t slot) {
    const auto r = static_cast<size_t>(row);
    tokens.as<int32_t>()[r] = token;
    positions.as<int32_t>()[r] = static_cast<int32_t>(position);
    slots.as<int32_t>()[r] = static_cast<int32_t>(slot);
  }
};

template <class T>
int32_t argmax(const Tensor& logits, int64_t row) {
  const auto n = static_cast<size_t>(logits.shape().last());
  const auto z = logits.as<T>().subspan(static_cast<size_t>(row) * n, n);
  return static_cast<int32_t>(std::ranges::max_element(z) - z.begin());
}

}  // namespace

struct Generator::Impl {
  GeneratorShape shape;
  int64_t prefill_tokens;
  std::deque<OwnedTensor> caches;  // k and v of layer 0, of layer 1, ...
  CachedGraph prefill, decode;
  Plan prefill_plan, decode_plan;

  Impl(const Llama& model, const ParameterStore& store, const GeneratorShape& s,
       const Backend& backend, Workspace& workspace)
      : shape(s),
        prefill_tokens(std::clamp<int64_t>(s.batch_size * s.capacity, 1, 512)),
        caches(make_caches(model, store, s)),
        prefill(model, caches, prefill_tokens, s.batch_size),
        decode(model, caches, s.batch_size, s.batch_size),
        prefill_plan(prefill.graph, std::array{prefill.logits}, backend, workspace),
        decode_plan(decode.graph, std::array{decode.logits}, backend, workspace) {}

  static std::deque<OwnedTensor> make_caches(const Llama& model, const ParameterStore& store,
                                             const GeneratorShape& s) {
    const LlamaConfig& c = model.config();
    if (s.capacity > model.longest()) {
      fail(ErrorKind::data, "a prompt and its continuation may take ", s.capacity,
           " tokens, but the model has ", model.longest(), " positions (max_position_embeddings)");
    }
    std::deque<OwnedTensor> caches;
    for (int64_t i = 0; i < 2 * c.num_hidden_layers; ++i) {
      caches.emplace_back(
          Type{store.working(), {s.batch_size, s.capacity, c.num_key_value_heads * c.head_dim}});
    }
    return caches;
  }

  int32_t best(const Tensor& logits, int64_t row) const {
    return logits.dtype() == DType::f64 ? argmax<double>(logits, row) : argmax<float>(logits, row);
  }

  std::vector<int32_t> first_tokens(std::span<const std::vector<int32_t>> prompts);
  void group(std::span<const std::vector<int32_t>> prompts, const GenerateOptions& options,
             std::vector<std::vector<int32_t>>& continuations);
};

// Reads all prompts into the cache and returns the token that follows each.
std::vector<int32_t> Generator::Impl::first_tokens(std::span<const std::vector<int32_t>> prompts) {
  std::vector<int32_t> next(prompts.size());
  std::vector<size_t> ending;  // prompts whose last token is in the pending run
  int64_t row = 0;
  auto flush = [&] {
    for (int64_t r = row; r < prefill_tokens; ++r) prefill.set(r, 0, 0, -1);
    prefill_plan.run();
    for (size_t p : ending) next[p] = best(prefill_plan[prefill.logits], static_cast<int64_t>(p));
    ending.clear();
    row = 0;
  };
  std::ranges::fill(prefill.chosen.as<int32_t>(), 0);
  for (size_t p = 0; p < prompts.size(); ++p) {
    for (size_t i = 0; i < prompts[p].size(); ++i) {
      prefill.set(row++, prompts[p][i], static_cast<int64_t>(i), static_cast<int64_t>(p));
      if (i + 1 == prompts[p].size()) {
        prefill.chosen.as<int32_t>()[p] = static_cast<int32_t>(row - 1);
        ending.push_back(p);
      }
      if (row == prefill_tokens) flush();
    }
  }
  if (row > 0) flush();
  return next;
}

void Generator::Impl::group(std::span<const std::vector<int32_t>> prompts,
                            const GenerateOptions& options,
                            std::vector<std::vector<int32_t>>& continuations) {
  std::vector<int32_t> next = first_tokens(prompts);
  std::vector<std::vector<int32_t>> out(prompts.size());
  std::vector<uint8_t> done(prompts.size(), 0);
  for (int64_t row = 0; row < shape.batch_size; ++row) {
    decode.set(row, 0, 0, -1);
    decode.chosen.as<int32_t>()[static_cast<size_t>(row)] = static_cast<int32_t>(row);
  }
  for (size_t left = prompts.size(); left > 0;) {
    for (size_t p = 0; p < prompts.size(); ++p) {
      if (done[p]) continue;
      out[p].push_back(next[p]);
      const auto made = static_cast<int64_t>(out[p].size());
      done[p] = made >= options.max_new_tokens || (options.finished && options.finished(out[p]));
      left -= done[p];
      const int64_t position = static_cast<int64_t>(prompts[p].size()) + made - 1;
      decode.set(static_cast<int64_t>(p), next[p], position,
                 done[p] ? -1 : static_cast<int64_t>(p));
    }
    if (left == 0) break;
    decode_plan.run();
    for (size_t p = 0; p < prompts.size(); ++p)
      next[p] = best(decode_plan[decode.logits], static_cast<int64_t>(p));
  }
  for (auto& tokens : out) continuations.push_back(std::move(tokens));
}

Generator::Generator(const Llama& model, const ParameterStore& store, const GeneratorShape& shape,
                     const Backend& backend, Workspace& workspace)
    : impl_(std::make_unique<Impl>(model, store, shape, backend, workspace)) {}
Generator::~Generator() = default;

std::vector<std::vector<int32_t>> Generator::greedy(std::span<const std::vector<int32_t>> prompts,
                                                    const GenerateOptions& options) {
  ensure(options.max_new_tokens >= 1, "max_new_tokens must be at least 1");
  for (const auto& prompt : prompts) {
    ensure(!prompt.empty(), "a prompt is empty");
    const int64_t needed = static_cast<int64_t>(prompt.size()) + options.max_new_tokens;
    if (needed > impl_->shape.capacity) {
      fail(ErrorKind::data, "a prompt of ", prompt.size(), " tokens and ", options.max_new_tokens,
           " new ones do not fit the cache of ", impl_->shape.capacity);
    }
  }
  std::vector<std::vector<int32_t>> continuations;
  const auto batch = static_cast<size_t>(impl_->shape.batch_size);
  for (size_t begin = 0; begin < prompts.size(); begin += batch) {
    impl_->group(prompts.subspan(begin, std::min(batch, prompts.size() - begin)), options,
                 continuations);
  }
  return continuations;
}

}  // namespace mora
