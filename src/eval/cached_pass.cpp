#include "eval/cached_pass.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace mora {

Caches::Caches(const Llama& model, const ParameterStore& store, int64_t slots, int64_t capacity)
    : slots_(slots), capacity_(capacity) {
  const LlamaConfig& c = model.config();
  if (capacity > model.longest()) {
    fail(ErrorKind::data, "a prompt and its continuation may take ", capacity,
         " tokens, but the model has ", model.longest(), " positions (max_position_embeddings)");
  }
  for (int64_t i = 0; i < 2 * c.num_hidden_layers; ++i)
    tensors_.emplace_back(
        Type{store.working(), {slots, capacity, c.num_key_value_heads * c.head_dim}});
}

void Caches::copy(int64_t from_slot, int64_t to_slot, int64_t count) {
  for (const OwnedTensor& tensor : tensors_) {
    const size_t token = tensor.view().bytes() / static_cast<size_t>(slots_ * capacity_);
    const size_t slot = token * static_cast<size_t>(capacity_);
    auto* first = static_cast<std::byte*>(tensor.view().data);
    std::memcpy(first + static_cast<size_t>(to_slot) * slot,
                first + static_cast<size_t>(from_slot) * slot, token * static_cast<size_t>(count));
  }
}

CachedPass::CachedPass(const Llama& model, Caches& caches, int64_t tokens, int64_t rows,
                       const Backend& backend, Workspace& workspace)
    : tokens_({DType::i32, {tokens}}),
      positions_({DType::i32, {tokens}}),
      slots_({DType::i32, {tokens}}),
      chosen_({DType::i32, {rows}}),
      logits_(write(*this, model, caches)),
      plan_(graph_, std::array{logits_}, backend, workspace) {}

Var CachedPass::write(CachedPass& pass, const Llama& model, Caches& caches) {
  Context context(pass.graph_);
  auto bind = [&](const OwnedTensor& t, const char* name) {
    return pass.graph_.bind(t.view(), name);
  };
  const Var at = bind(pass.positions_, "positions"), slot = bind(pass.slots_, "slots");
  const Attend attend = [&](int64_t layer, Var q, Var k, Var v) {
    const Var k_cache = bind(caches.keys(layer), "k_cache"),
              v_cache = bind(caches.values(layer), "v_cache");
    cache_write(k_cache, k, slot, at);
    cache_write(v_cache, v, slot, at);
    return cached_attention(q, k_cache, v_cache, slot, at, model.attention_attrs());
  };
  const Var h = model.hidden(context, bind(pass.tokens_, "tokens"), at, attend);
  return matmul(embedding(h, bind(pass.chosen_, "chosen")), model.output_weight(context),
                {.tb = Transpose::yes});
}

void CachedPass::set(int64_t row, int32_t token, int64_t position, int64_t slot) {
  const auto r = static_cast<size_t>(row);
  tokens_.as<int32_t>()[r] = token;
  positions_.as<int32_t>()[r] = static_cast<int32_t>(position);
  slots_.as<int32_t>()[r] = static_cast<int32_t>(slot);
}

void CachedPass::clear_from(int64_t row) {
  for (int64_t r = row; r < tokens(); ++r) set(r, 0, 0, -1);
  std::ranges::fill(chosen_.as<int32_t>(), 0);
}

}  // namespace mora
