// The loss where no gradient of W is read, whose blocks of logits are made once (in f32, and in
// bf16 by AMX): beside f64, over several chunks of the vocabulary, with the largest
// logit where it is worst, and whatever the number of threads.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "mora/autograd/grad.hpp"
#include "mora/core/parallel.hpp"
#include "mora/core/random.hpp"
#include "mora/ops/ops.hpp"
#include "mora/plan/plan.hpp"
#include "op_harness.hpp"

TEST_SUITE_BEGIN("loss");

namespace mora::testing {
namespace {

struct Size {
  int64_t tokens, width, vocab;
};

struct Task {
  Size size;
  OwnedTensor h, w, labels, weights;

  Task(const Size& s, DType stored, DType w_stored)
      : size(s),
        h({stored, {s.tokens, s.width}}),
        w({w_stored, {s.vocab, s.width}}),
        labels({DType::i32, {s.tokens}}),
        weights({DType::f32, {s.tokens}}) {
    fill(h, 1.0, {5, Purpose::test, 1});
    fill(w, 0.5, {5, Purpose::test, 2});
    for (int64_t t = 0; t < s.tokens; ++t) {
      const auto at = static_cast<size_t>(t);
      labels.as<int32_t>()[at] = static_cast<int32_t>((t * 7919 + s.vocab - 1) % s.vocab);
      weights.as<float>()[at] = t % 3 == 1 ? 0.0f : 0.25f + static_cast<float>(t % 5);
    }
  }

  // Rows of W grow with the vocabulary: nearly every block brings a logit larger than all before.
  void grow() {
    OwnedTensor wide({DType::f32, w.view().shape()});
    convert(w.view(), wide.view());
    for (int64_t v = 0; v < size.vocab; ++v) {
      for (int64_t d = 0; d < size.width; ++d)
        wide.as<float>()[static_cast<size_t>(v * size.width + d)] *=
            0.1f + 8.0f * static_cast<float>(v) / static_cast<float>(size.vocab);
    }
    convert(wide.view(), w.view());
  }

  // To bf16, as it is multiplied where h is in bf16.
  void round_w() {
    const OwnedTensor narrow({DType::bf16, w.view().shape()});
    convert(w.view(), narrow.view());
    convert(narrow.view(), w.view());
  }

 private:
  static void fill(const OwnedTensor& tensor, double scale, const Random& random) {
    OwnedTensor wide({DType::f32, tensor.view().shape()});
    const auto numbers = wide.as<float>();
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<float>(scale * random.normal(i));
    convert(wide.view(), tensor.view());
  }
};

struct Result {
  double loss;
  Array nll, dh;
};

OwnedTensor as(DType dtype, const OwnedTensor& tensor) {
  OwnedTensor result({dtype, tensor.view().shape()});
  convert(tensor.view(), result.view());
  return result;
}

Result computed(const Tensor& h_data, const Tensor& w_data, const Tensor& label_data,
                const Tensor& weight_data, std::vector<Bytes>* bits = nullptr) {
  Graph graph;
  const Var h = graph.bind(h_data, "h"), w = graph.bind(w_data, "w"),
            labels = graph.bind(label_data, "labels"), weights = graph.bind(weight_data, "weights");
  const auto [loss, nll] = linear_cross_entropy(h, w, labels, weights);
  OwnedTensor one({DType::f32, loss.type().shape});
  one.as<float>()[0] = 1.0f;
  one = as(loss.type().dtype, one);
  const Var dh =
      grad(std::array{loss}, std::array{graph.bind(one.view(), "one")}, std::array{h})[0];
  const auto backend = make_cpu_backend();
  Workspace workspace;
  const std::array outputs{loss, nll, dh};
  Plan plan(graph, outputs, *backend, workspace);
  plan.run();
  if (bits != nullptr) *bits = bytes_of(plan, outputs);
  return {numbers(plan[loss])[0], numbers(plan[nll]), numbers(plan[dh])};
}

Result computed(const Task& task, std::vector<Bytes>* bits = nullptr) {
  return computed(task.h.view(), task.w.view(), task.labels.view(), task.weights.view(), bits);
}

// By chunks of logits, the way of f64, whose gradients central differences check.
Result in_double(const Task& task) {
  const OwnedTensor h = as(DType::f64, task.h), w = as(DType::f64, task.w),
                    weights = as(DType::f64, task.weights);
  return computed(h.view(), w.view(), task.labels.view(), weights.view());
}

double error(const Array& a, const Array& b) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::abs(b[i]));
    difference = std::max(difference, std::abs(a[i] - b[i]));
  }
  return difference / std::max(largest, 1e-30);
}

// A chunk is 2,048 columns in blocks of 256; parts of the depth are 768 numbers in f32.
constexpr std::array kSizes = {Size{1, 16, 1},     Size{3, 48, 257},    Size{70, 16, 2048},
                               Size{41, 32, 4500}, Size{300, 64, 2049}, Size{19, 1040, 600},
                               Size{150, 1024, 40}};

TEST_CASE("loss and gradient of h agree with those in f64") {
  for (const Size& size : kSizes) {
    for (const DType stored : {DType::f32, DType::bf16}) {
      for (const DType w : {DType::f32, DType::bf16, DType::f16}) {
        if (stored == DType::bf16 && w == DType::f16) continue;
        for (const bool grows : {false, true}) {
          INFO(str(size.tokens, " x ", size.width, ", vocabulary ", size.vocab, ", ", stored,
                   ", W in ", w, grows ? ", growing" : ""));
          Task task(size, stored, w);
          if (grows) task.grow();
          if (stored == DType::bf16) task.round_w();
          const Result ours = computed(task), reference = in_double(task);
          const double bound = stored == DType::f32 ? 2e-5 : 1e-2;
          CHECK(std::abs(ours.loss - reference.loss) <=
                bound * std::max(1.0, std::abs(reference.loss)));
          CHECK(error(ours.nll, reference.nll) < bound);
          CHECK(error(ours.dh, reference.dh) < bound);
        }
      }
    }
  }
}

TEST_CASE("the same bits at 1, 2, 3 and 5 threads, and of a token whatever stands beside it") {
  const int threads = thread_count();
  for (const DType stored : {DType::f32, DType::bf16}) {
    const Task task({300, 64, 2500}, stored, DType::f32);
    std::vector<Bytes> alone;
    set_thread_count(1);
    const Result all = computed(task, &alone);
    for (const int n : {2, 3, 5}) {
      set_thread_count(n);
      std::vector<Bytes> bits;
      computed(task, &bits);
      CHECK(bits == alone);
    }
    for (int64_t t = 0; t + 1 < 300; ++t) task.weights.as<float>()[static_cast<size_t>(t)] = 0.0f;
    const Result last = computed(task);
    CHECK(last.nll[299] == all.nll[299]);
    CHECK(std::equal(last.dh.end() - 64, last.dh.end(), all.dh.end() - 64));
  }
  set_thread_count(threads);
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
