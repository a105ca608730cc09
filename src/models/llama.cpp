#include "mora/models/llama.hpp"

#include <cmath>

#include "models/rope_table.hpp"

namespace mora {

Llama::Llama(const LlamaConfig& config, ParameterStore& store, Training training, int64_t longest)
    : config_(config) {
  const LlamaConfig& c = config_;
  const Init normal{Init::Kind::normal, c.initializer_range}, ones{Init::Kind::ones, 0};
  const Scope root(store), model = root / "model";
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t d = c.hidden_size, f = c.intermediate_size;
  const Bias attention_bias = c.attention_bias ? Bias::yes : Bias::no,
             mlp_bias = c.mlp_bias ? Bias::yes : Bias::no;
  embed_tokens_ =
      &(model / "embed_tokens").parameter("weight", {c.vocab_size, d}, normal, training);
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    const Scope at = model / "layers" / std::to_string(i), attn = at / "self_attn",
                mlp = at / "mlp";
    auto norm = [&](std::string_view name) {
      return &(at / name).parameter("weight", {d}, ones, training, Decay::no);
    };
    auto linear = [&](const Scope& scope, std::string_view name, int64_t in, int64_t out) {
      return Linear(scope / name, in, out, normal, training,
                    scope.path() == mlp.path() ? mlp_bias : attention_bias);
    };
    layers_.push_back({.input_layernorm = norm("input_layernorm"),
                       .post_attention_layernorm = norm("post_attention_layernorm"),
                       .q_proj = linear(attn, "q_proj", d, q),
                       .k_proj = linear(attn, "k_proj", d, kv),
                       .v_proj = linear(attn, "v_proj", d, kv),
                       .o_proj = linear(attn, "o_proj", q, d),
                       .gate_proj = linear(mlp, "gate_proj", d, f),
                       .up_proj = linear(mlp, "up_proj", d, f),
                       .down_proj = linear(mlp, "down_proj", f, d)});
  }
  norm_ = &(model / "norm").parameter("weight", {d}, ones, training, Decay::no);
  if (!c.tie_word_embeddings) {
    lm_head_ = &(root / "lm_head").parameter("weight", {c.vocab_size, d}, normal, training);
  }
  rope_table_ =
      make_rope_table(c, longest > 0 ? longest : c.max_position_embeddings, store.working());
}

AttentionAttrs Llama::attention_attrs() const {
  return {.heads = config_.num_attention_heads,
          .kv_heads = config_.num_key_value_heads,
          .scale = 1.0 / std::sqrt(static_cast<double>(config_.head_dim))};
}

Attend Llama::packed_attention(Var segment_start) const {
  return [this, segment_start](int64_t, Var q, Var k, Var v) {
    return attention(q, k, v, segment_start, attention_attrs()).y;
  };
}

Var Llama::norm(Context& context, std::string_view name, const Parameter& weight, Var x) const {
  const auto guard = context.graph().scope(name);
  return forget(
      rms_norm(x, context.parameter(weight), config_.rms_norm_eps, context.activations()).y);
}

Var Llama::self_attn(Context& context, int64_t index, Var x, Var positions, const Attend& attend,
                     Remembered remembered) const {
  const auto guard = context.graph().scope("self_attn");
  const Layer& l = layers_[static_cast<size_t>(index)];
  const Var table = context.constant(rope_table_.view(), "rope");
  const Var q =
      rope(l.q_proj(context, x), table, positions, {.heads = config_.num_attention_heads});
  const Var k =
      rope(l.k_proj(context, x), table, positions, {.heads = config_.num_key_value_heads});
  return l.o_proj(context, attend(index, q, k, l.v_proj(context, x)), remembered);
}

Var Llama::mlp(Context& context, const Layer& l, Var x) {
  const auto guard = context.graph().scope("mlp");
  return l.down_proj(context, forget(swiglu(l.gate_proj(context, x), l.up_proj(context, x))));
}

Var Llama::layer(Context& context, int64_t index, Var x, Var positions,
                 const Attend& attend) const {
  const auto guard = context.graph().scope(str("layers.", index));
  const auto whole = context.region(Recompute::block);
  const Layer& l = layers_[static_cast<size_t>(index)];
  {
    const auto half = context.region(Recompute::attention);
    const Var h = norm(context, "input_layernorm", *l.input_layernorm, x);
    // In bf16 the sum behind attention is the largest of what is kept for the price of making it,
    // a product of hidden_size x hidden_size.
    const Remembered sum = context.activations() == DType::bf16 ? Remembered::no : Remembered::yes;
    x = add(x, self_attn(context, index, h, positions, attend, sum));
    if (sum == Remembered::no) forget(x);
  }
  const Var m = norm(context, "post_attention_layernorm", *l.post_attention_layernorm, x);
  return add(x, mlp(context, l, m));
}

Var Llama::embed(Context& context, Var tokens) const {
  const auto guard = context.graph().scope("embed_tokens");
  return embedding(context.parameter(*embed_tokens_), tokens);
}

Var Llama::hidden(Context& context, Var tokens, Var positions, const Attend& attend) const {
  const auto guard = context.graph().scope("model");
  Var x = embed(context, tokens);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i)
    x = layer(context, i, x, positions, attend);
  return norm(context, "norm", *norm_, x);
}

Var Llama::output_weight(Context& context) const {
  return context.parameter(lm_head_ != nullptr ? *lm_head_ : *embed_tokens_);
}

std::vector<Linear*> Llama::linears() {
  std::vector<Linear*> all;
  for (Layer& l : layers_) {
    for (Linear* linear :
         {&l.q_proj, &l.k_proj, &l.v_proj, &l.o_proj, &l.gate_proj, &l.up_proj, &l.down_proj}) {
      all.push_back(linear);
    }
  }
  return all;
}

}  // namespace mora
