// mora-bench-kernels [THREADS [CASE]]: every kernel of a training step against its floor.
//
// A kernel's floor is the longer of two times, both measured in the same run: what its operands'
// bytes take at the speed of copying as many bytes, and what its floating-point operations take at
// the speed of the best of three large products (the type's own). Shapes are those of SmolLM2-135M
// with 2,048 tokens. Prints the shortest of several runs: microseconds, GB/s, GFLOP/s, and the time
// as a multiple of the floor.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "mora/autograd/grad.hpp"
#include "mora/core/parallel.hpp"
#include "mora/plan/plan.hpp"

namespace {

using namespace mora;

constexpr int64_t kTokens = 2048, kHidden = 576, kInner = 1536, kVocab = 49152, kHeads = 9,
                  kKvHeads = 3, kHeadDim = 64, kRank = 8, kRHat = 130;
constexpr int kRuns = 12;

// One graph under measurement, with memory for its leaves.
class Bench {
 public:
  explicit Bench(DType stored) : stored_(stored) {}

  Var leaf(DType dtype, const Shape& shape) {
    memory_.emplace_back(Type{dtype, shape});
    const Tensor t = memory_.back().view();
    if (dtype == DType::i32) return graph_.bind(t, "leaf");
    const OwnedTensor numbers({DType::f32, shape});
    for (size_t i = 0; i < numbers.as<float>().size(); ++i)
      numbers.as<float>()[i] = static_cast<float>(static_cast<int>(i * 7919 % 251) - 125) * 0.004f;
    convert(numbers.view(), t);
    return graph_.bind(t, "leaf");
  }
  Var activation(const Shape& shape) { return leaf(stored_, shape); }
  Var f32(const Shape& shape) { return leaf(DType::f32, shape); }
  Var weight(int64_t out, int64_t in) { return leaf(stored_, {out, in}); }
  Var ids(std::function<int32_t(int64_t)> at) {
    const Var v = leaf(DType::i32, {kTokens});
    for (int64_t t = 0; t < kTokens; ++t)
      memory_.back().as<int32_t>()[static_cast<size_t>(t)] = at(t);
    return v;
  }
  DType stored() const { return stored_; }

  // The gradient of y by wrt, for any gradient of y.
  void differentiate(Var y, std::initializer_list<Var> wrt) {
    const std::vector<Var> variables(wrt);
    for (Var g : grad(std::array{y}, std::array{leaf(y.type().dtype, y.shape())}, variables))
      results_.push_back(g);
  }
  void keep(Var y) { results_.push_back(y); }

  struct Cost {
    double seconds = 1e9, bytes = 0, flops = 0;
  };
  // By operation; several of one graph count as one.
  std::map<std::string, Cost> measure() {
    const auto backend = make_cpu_backend();
    Workspace workspace;
    Plan plan(graph_, results_, *backend, workspace);
    std::map<std::string, Cost> best;
    for (int run = 0; run < kRuns; ++run) {
      std::map<std::string, Cost> now;
      plan.trace([&](const StepRun& step) {
        const bool again = now.contains(std::string(step.op.name));
        Cost& cost = now[std::string(step.op.name)];
        if (!again) cost.seconds = 0;
        cost.seconds += step.seconds;
        for (const Tensor& t : step.in) cost.bytes += static_cast<double>(t.bytes());
        for (const Tensor& t : step.out) cost.bytes += t ? static_cast<double>(t.bytes()) : 0;
        if (step.op.flops != nullptr) cost.flops += step.op.flops(step.in, step.out, step.attrs);
      });
      for (const auto& [name, cost] : now) {
        if (cost.seconds < best[name].seconds) best[name] = cost;
      }
    }
    return best;
  }

 private:
  DType stored_;
  Graph graph_;
  std::deque<OwnedTensor> memory_;
  std::vector<Var> results_;
};

double seconds_of(const std::function<void()>& run) {
  double best = 1e9;
  for (int i = 0; i < kRuns; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count());
  }
  return best;
}

// Bytes a second of y = a + b over as many bytes in all.
double bandwidth(double bytes) {
  const auto n = std::max<int64_t>(static_cast<int64_t>(bytes / 12), 1 << 14);
  const OwnedTensor a({DType::f32, {n}}), b({DType::f32, {n}}), y({DType::f32, {n}});
  const float *pa = a.as<float>().data(), *pb = b.as<float>().data();
  float* py = y.as<float>().data();
  const double seconds = seconds_of([=] {
    parallel_pieces(n, 1 << 14, [=](int64_t begin, int64_t end) {
#pragma GCC ivdep
      for (int64_t i = begin; i < end; ++i) py[i] = pa[i] + pb[i];
    });
  });
  return static_cast<double>(n) * 12 / seconds;
}

double best_product(DType dtype) {
  double best = 0;
  for (const auto& [k, n] : {std::pair{2048, 2048}, {kHidden, kInner}, {kInner, kHidden}}) {
    Bench bench(dtype);
    bench.keep(matmul(bench.activation({kTokens, k}), bench.weight(n, k), {.tb = Transpose::yes}));
    const Bench::Cost cost = bench.measure().at("matmul");
    best = std::max(best, cost.flops / cost.seconds);
  }
  return best;
}

struct Case {
  const char* what;
  void (*build)(Bench&);
};

Var product(Bench& b, int64_t in, int64_t out) {
  return matmul(b.activation({kTokens, in}), b.weight(out, in), {.tb = Transpose::yes});
}

// Of a weight [rows, columns].
Var gradient(Bench& b, int64_t rows, int64_t columns) {
  return matmul(b.activation({kTokens, rows}), b.activation({kTokens, columns}),
                {.ta = Transpose::yes, .out = DType::f32});
}

// Four segments of a quarter of the tokens, or one of all.
Var segments(Bench& b, int64_t count) {
  const int64_t length = kTokens / count;
  return b.ids([=](int64_t t) { return static_cast<int32_t>(t / length * length); });
}

void attend(Bench& b, int64_t count) {
  const Var q = b.activation({kTokens, kHeads * kHeadDim}),
            k = b.activation({kTokens, kKvHeads * kHeadDim}),
            v = b.activation({kTokens, kKvHeads * kHeadDim});
  const Var y = attention(q, k, v, segments(b, count),
                          {.heads = kHeads, .kv_heads = kKvHeads, .scale = 0.125})
                    .y;
  b.differentiate(y, {q, k, v});
}

constexpr FoldAttrs fold_attrs(int64_t size) {
  return {.size = size, .grouping = Grouping::strided, .padding = Padding::circular};
}

// A layer with an update by rotation, R = r_hat of r = 8, and the gradients of x and M.
void rotated(Bench& b, int64_t in, int64_t out, int64_t width) {
  const int64_t blocks = (std::min(in, out) + width - 1) / width;
  const Var x = b.activation({kTokens, in}), w = b.weight(out, in), m = b.f32({width, width}),
            table = b.f32({blocks, width});
  const Var y =
      add(matmul(x, w, {.tb = Transpose::yes}), block_product({x, m, table}, {.size = out}));
  b.keep(y);
  b.differentiate(y, {x, m});
}

const Case kCases[] = {
    {"q_proj", [](Bench& b) { b.keep(product(b, kHidden, kHidden)); }},
    {"up_proj", [](Bench& b) { b.keep(product(b, kHidden, kInner)); }},
    {"down_proj", [](Bench& b) { b.keep(product(b, kInner, kHidden)); }},
    {"LoRA A", [](Bench& b) { b.keep(product(b, kHidden, kRank)); }},
    {"LoRA B", [](Bench& b) { b.keep(product(b, kRank, kInner)); }},
    {"LoRA B beside the layer",
     [](Bench& b) { b.keep(add(product(b, kHidden, kInner), product(b, kRank, kInner))); }},
    {"LoRA gradient of A", [](Bench& b) { b.keep(gradient(b, kRank, kHidden)); }},
    {"LoRA gradient of B", [](Bench& b) { b.keep(gradient(b, kInner, kRank)); }},
    {"MoRA M", [](Bench& b) { b.keep(product(b, kRHat, kRHat)); }},
    {"norm",
     [](Bench& b) {
       const Var x = b.f32({kTokens, kHidden}), w = b.f32({kHidden});
       b.differentiate(rms_norm(x, w, 1e-5, b.stored()).y, {x});
     }},
    {"rope",
     [](Bench& b) {
       const Var positions = b.ids([](int64_t t) { return static_cast<int32_t>(t % 512); });
       b.keep(rope(b.activation({kTokens, kHeads * kHeadDim}), b.f32({512, kHeadDim}), positions,
                   {.heads = kHeads}));
     }},
    {"swiglu",
     [](Bench& b) {
       const Var gate = b.activation({kTokens, kInner}), up = b.activation({kTokens, kInner});
       b.differentiate(swiglu(gate, up), {gate, up});
     }},
    {"4 x 512", [](Bench& b) { attend(b, 4); }},
    {"1 x 2048", [](Bench& b) { attend(b, 1); }},
    {"residual",
     [](Bench& b) {
       b.keep(add(b.f32({kTokens, kHidden}), b.activation({kTokens, kHidden})));
     }},
    {"sharing",
     [](Bench& b) {
       b.keep(fold(b.activation({kTokens, kInner}), fold_attrs(kRHat)));
       b.keep(unfold(b.activation({kTokens, kRHat}), fold_attrs(kInner),
                     b.activation({kTokens, kInner})));
     }},
    {"rotation",
     [](Bench& b) {
       const int64_t blocks = (kInner + kRHat - 1) / kRHat;
       b.keep(rotate_blocks(b.activation({kTokens, kInner}), b.f32({blocks, kRHat}), {}));
     }},
    {"q_proj with rotation", [](Bench& b) { rotated(b, kHidden, kHidden, 96); }},
    {"up_proj with rotation", [](Bench& b) { rotated(b, kHidden, kInner, 130); }},
    {"down_proj with rotation", [](Bench& b) { rotated(b, kInner, kHidden, 130); }},
    {"dropout",
     [](Bench& b) {
       const Var x = b.activation({kTokens, kInner});
       const Var mask =
           dropout_mask(b.leaf(DType::i32, {2}),
                        {.elements = x.shape().elements(), .p = 0.05, .seed = 1, .stream = 1});
       b.keep(dropout(x, mask, {.p = 0.05}));
     }},
    {"lm_head and loss",
     [](Bench& b) {
       const Var h = b.activation({kTokens, kHidden}), w = b.weight(kVocab, kHidden);
       const Var labels = b.ids([](int64_t t) { return static_cast<int32_t>(t); });
       const Var loss = linear_cross_entropy(h, w, labels, b.f32({kTokens})).loss;
       b.keep(loss);
       b.differentiate(loss, {h});
     }},
    {"norm of gradients", [](Bench& b) { b.keep(squared_norm(b.f32({4 << 20}))); }},
};

void print(const char* what, const std::string& op, DType dtype, const Bench::Cost& cost,
           double peak) {
  const double floor = std::max(cost.bytes / bandwidth(cost.bytes), cost.flops / peak);
  std::printf("%-24s %-22s %-5s %9.0f us %7.1f GB/s %8.1f GFLOP/s %6.2f x\n", what, op.c_str(),
              str(dtype).c_str(), 1e6 * cost.seconds, 1e-9 * cost.bytes / cost.seconds,
              1e-9 * cost.flops / cost.seconds, cost.seconds / floor);
  std::fflush(stdout);
}

// Cases whose names contain `part`.
void run(const std::string& part) {
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const double peak = best_product(dtype);
    std::printf("%s: the best product reaches %.0f GFLOP/s, copying 16 MiB %.1f GB/s\n",
                str(dtype).c_str(), 1e-9 * peak, 1e-9 * bandwidth(16 << 20));
    for (const Case& c : kCases) {
      if (std::string(c.what).find(part) == std::string::npos) continue;
      Bench bench(dtype);
      c.build(bench);
      for (const auto& [op, cost] : bench.measure()) print(c.what, op, dtype, cost, peak);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) set_thread_count(std::max(1, std::atoi(argv[1])));
  try {
    run(argc > 2 ? argv[2] : "");
    return 0;
  } catch (const Error& e) {
    std::fprintf(stderr, "mora-bench-kernels: %s\n", e.what());
    return e.exit_code();
  }
}
