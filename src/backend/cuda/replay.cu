// The first run walks: libraries choose their algorithms and load what they need, which a capture
// does not allow. The second is captured, and from then on the graph is started as a whole.
#include "backend/cuda/device.hpp"
#include "backend/cuda/memory.hpp"
#include "backend/cuda/replay.hpp"

namespace mora::cuda {

namespace {

class GraphReplay final : public Replay {
 public:
  ~GraphReplay() override { discard(); }

  void run(Walk walk, const void* plan) override {
    if (graph_ == nullptr && warm_) capture(walk, plan);
    if (graph_ != nullptr) {
      check(cudaGraphLaunch(graph_, stream()), "starting a graph");
    } else {
      bring_memory();
      walk(plan);
      warm_ = true;
    }
    try {
      wait();
    } catch (...) {
      discard();  // what failed while it was recorded is missing in it
      throw;
    }
  }

  void forget() override { discard(); }

 private:
  void capture(Walk walk, const void* plan) {
    check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), "recording a graph");
    walk(plan);
    const cudaError_t started = cudaGetLastError();
    cudaGraph_t recorded = nullptr;
    const cudaError_t ended = cudaStreamEndCapture(stream(), &recorded);
    check(started, "starting a kernel");
    check(ended, "recording a graph");
    const cudaError_t made = cudaGraphInstantiate(&graph_, recorded, 0);
    cudaGraphDestroy(recorded);
    check(made, "making a graph");
  }

  void discard() {
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
    graph_ = nullptr;
  }

  cudaGraphExec_t graph_ = nullptr;
  bool warm_ = false;
};

}  // namespace

std::unique_ptr<Replay> make_graph_replay() {
  return std::make_unique<GraphReplay>();
}

}  // namespace mora::cuda
