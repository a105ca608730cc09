// Backend: how a node is computed. A table of kernels, and what a kernel may prepare once per plan
// (a library's primitive, scratch memory). Kernels see tensors and attributes; they do not know
// that graphs exist.
//
// The contract of a kernel: it writes every element of every output it is given, skips an output
// whose data is null (nobody reads it), never allocates, never throws, and accepts output 0 on top
// of the input named `inplace` in its Op record. Its result has the same bits for any number of
// threads, and in every run. It may return before it is done, where what follows is done in order:
// Backend::wait() knows the end of it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "mora/core/tensor.hpp"
#include "mora/graph/attrs.hpp"
#include "mora/ops/ops.hpp"

namespace mora {

struct KernelArgs {
  std::span<const Tensor> in;
  std::span<const Tensor> out;
  const Attrs& attrs;
  void* scratch;      // as many bytes as prepare() asked for, 64-byte aligned
  const void* state;  // what prepare() made
};
using Kernel = void (*)(const KernelArgs&);

// When a result is read for the last time. Late: so much else went by that its memory is in no
// cache when it is written, nor then.
enum class LastRead : uint8_t { soon, late };

// One node, before memory is known.
struct OpCall {
  OpId op;
  std::span<const Type> in;
  std::span<const Type> out;
  std::span<const uint8_t> read;  // read[i]: output i is needed
  const Attrs& attrs;
  LastRead last_read = LastRead::soon;  // of output 0
};

struct Prepared {
  size_t scratch_bytes = 0;
  std::shared_ptr<const void> state;
};

// The calls of one plan's kernels, which a backend may record once and repeat: their addresses and
// attributes stay the same.
class Replay {
 public:
  using Walk = void (*)(const void* plan);  // calls every kernel, in order
  virtual ~Replay() = default;
  virtual void run(Walk walk, const void* plan) = 0;  // as walk(plan), and waits
  virtual void forget() = 0;                          // addresses have changed
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string name() const = 0;  // "cpu", or the device's own
  virtual Kernel kernel(const OpCall& call) const = 0;
  virtual Prepared prepare(const OpCall& call) const = 0;
  virtual bool multiplies_bf16() const = 0;  // else products of bf16 are made in f32

  // Where tensors must be for its kernels; null: anywhere in the program's memory.
  virtual std::shared_ptr<MemorySource> memory() const { return nullptr; }
  // Until all kernels that were called are done. Throws Error where one failed.
  virtual void wait() const {}
  virtual std::unique_ptr<Replay> make_replay() const { return nullptr; }  // null: walking is best
};

// Who multiplies matrices on the CPU. automatic: in bf16 AMX where the processor has it, else
// oneDNN where it was found at build time and suits the shape, else Eigen.
enum class MatmulProvider { automatic, onednn, eigen };

bool has_onednn();
// Whose instructions multiply bf16 on the CPU by default: "AMX", "oneDNN", or nobody's ("").
// Then products of bf16 are made in f32. ONEDNN_MAX_CPU_ISA limits all of them.
std::string_view multiplier_of_bf16();
inline bool multiplies_bf16() {
  return !multiplier_of_bf16().empty();
}
std::unique_ptr<Backend> make_cpu_backend(MatmulProvider provider = MatmulProvider::automatic);

// "cpu", or the accelerator's name in configurations. Error(usage) where the program was built
// without it or none is there.
std::unique_ptr<Backend> make_backend(std::string_view device, MatmulProvider provider);
std::vector<std::string> devices();  // what `device` may be
// The accelerators that this program was built for, for --version: "" or a list.
std::string accelerators();

}  // namespace mora
