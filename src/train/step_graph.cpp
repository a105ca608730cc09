#include "train/step_graph.hpp"

#include "mora/autograd/grad.hpp"

namespace mora {

ActivationOptions activation_options(const TrainConfig& config) {
  ActivationOptions options;
  if (config.in_bf16()) options.stored = DType::bf16;
  if (config.recompute == "attention") options.recompute = Recompute::attention;
  if (config.recompute == "block") options.recompute = Recompute::block;
  return options;
}

MicroGraph::MicroGraph(const Llama& model, const ParameterStore& store, int64_t capacity,
                       uint64_t seed, const ActivationOptions& activations)
    : batch(capacity, store.working()), step({DType::i32, {2}}) {
  Context context(graph);
  if (activations.stored) context.store_activations(*activations.stored);
  context.recompute(activations.recompute);
  context.enable_dropout({.seed = seed, .step = graph.bind(step.view(), "step")});
  auto bind = [&](const OwnedTensor& t, const char* name) { return graph.bind(t.view(), name); };
  const Var segment_start = bind(batch.segment_start, "segment_start");
  const Var h =
      model.hidden(context, bind(batch.tokens, "tokens"), bind(batch.positions, "positions"),
                   model.packed_attention(segment_start));
  {
    const auto scope = graph.scope("lm_head");
    loss = linear_cross_entropy(h, model.output_weight(context), bind(batch.labels, "labels"),
                                bind(batch.weights, "weights"))
               .loss;
  }
  std::vector<const Parameter*> trained;
  std::vector<Var> wrt;
  for (const Parameter& p : store.all()) {
    if (p.training != Training::trained) continue;
    trained.push_back(&p);
    wrt.push_back(context.parameter(p));
  }
  one = OwnedTensor(loss.type());
  if (store.working() == DType::f64) {
    one.as<double>()[0] = 1;
  } else {
    one.as<float>()[0] = 1;
  }
  const Var seed_gradient = bind(one, "one");
  const std::vector<Var> gradients = grad(std::array{loss}, std::array{seed_gradient}, wrt);
  for (size_t i = 0; i < trained.size(); ++i) {
    if (gradients[i])
      accumulate(graph.bind(trained[i]->grad, trained[i]->name + ".grad"), gradients[i]);
  }
}

UpdateGraph::UpdateGraph(const ParameterStore& store, const TrainConfig& config)
    : hypers({DType::f64, {6}}) {
  clear(clear_graph.bind(store.gradients(), "gradients"));
  norm2 = squared_norm(graph.bind(store.gradients(), "gradients"));
  for (const ParameterGroup& group : store.groups()) {
    auto part = [&](const Tensor& flat, const char* name) {
      return graph.bind(slice(flat, group.begin, group.count), name);
    };
    adamw({.parameters = part(store.values(), "parameters"),
           .gradients = part(store.gradients(), "gradients"),
           .exp_avg = part(store.exp_avg(), "exp_avg"),
           .exp_avg_sq = part(store.exp_avg_sq(), "exp_avg_sq")},
          norm2, graph.bind(hyper(group.clock), "hyper"),
          {.beta1 = config.adam_beta1,
           .beta2 = config.adam_beta2,
           .eps = config.adam_epsilon,
           .weight_decay = group.decay == Decay::yes ? config.weight_decay : 0.0,
           .max_grad_norm = config.max_grad_norm,
           .lr_ratio = group.lr_ratio});
  }
}

Tensor UpdateGraph::hyper(Clock clock) const {
  return slice(hypers.view(), clock == Clock::run ? 0 : 3, 3);
}

}  // namespace mora
