// Blocks run one after the other, their threads as fibers of the one system thread that waits.
#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulated {

constexpr size_t kMostShared = 163 << 10;  // of compute capability 8.0

namespace {

constexpr size_t kStack = 256 << 10, kWarpLanes = 32;

enum class Waits { no, for_warp, for_block, ended };

struct Fiber {
  Fiber() { getcontext(&context); }
  ucontext_t
      context;   // how it is entered for the first time; then it is left and entered by jumps,
  jmp_buf jump;  // which ask nothing of the system
  bool entered = false;
  unsigned exchanges = 0;  // with the other lanes of its warp
  std::unique_ptr<std::byte[]> stack;
  uint3 thread{};
  Waits waits = Waits::no;
};

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "emulated CUDA: %s\n", what);
  std::abort();
}

// The block that runs.
struct Block {
  std::vector<std::unique_ptr<Fiber>> fibers;  // as many as any block had; `count` are of this one
  size_t count = 0, current = 0;
  jmp_buf scheduler;
  const std::function<void()>* kernel = nullptr;
  std::vector<size_t> order;
  alignas(64) unsigned char shared[kMostShared];
  std::array<std::array<std::array<std::byte, 64 * kWarpLanes>, 2>, 32> exchanged;  // by warp
} running;

Order chosen_order = Order::forward;

void set_last_waits(Waits waits) {
  Fiber& fiber = *running.fibers[running.current];
  fiber.waits = waits;
  if (_setjmp(fiber.jump) == 0) _longjmp(running.scheduler, 1);
}

// Runs the current fiber until it waits.
void enter_current() {
  Fiber& fiber = *running.fibers[running.current];
  if (_setjmp(running.scheduler) != 0) return;
  if (fiber.entered) _longjmp(fiber.jump, 1);
  fiber.entered = true;
  setcontext(&fiber.context);
}

void fiber_body() {
  for (;;) {
    (*running.kernel)();
    set_last_waits(Waits::ended);  // and begins anew when it is used again
  }
}

void prepare_fibers(dim3 threads) {
  running.count = size_t{threads.x} * threads.y * threads.z;
  while (running.fibers.size() < running.count) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = std::make_unique<std::byte[]>(kStack);
    fiber->context.uc_stack.ss_sp = fiber->stack.get();
    fiber->context.uc_stack.ss_size = kStack;
    makecontext(&fiber->context, fiber_body, 0);
    running.fibers.push_back(std::move(fiber));
  }
  for (size_t i = 0; i < running.count; ++i) {
    const auto n = static_cast<unsigned>(i);
    running.fibers[i]->thread = {n % threads.x, n / threads.x % threads.y,
                                 n / threads.x / threads.y};
    running.fibers[i]->waits = Waits::no;
    running.fibers[i]->exchanges = 0;
  }
  running.order.resize(running.count);
  std::iota(running.order.begin(), running.order.end(), size_t{0});
  if (chosen_order == Order::backward) std::ranges::reverse(running.order);
}

// Lets all of [begin, end) go on that wait for `what`, if none of them can run. True if some did.
bool release(size_t begin, size_t end, Waits what) {
  bool waiting = false;
  for (size_t i = begin; i < end; ++i) {
    const Waits waits = running.fibers[i]->waits;
    if (waits != what && waits != Waits::ended) return false;
    waiting = waiting || waits == what;
  }
  for (size_t i = begin; waiting && i < end; ++i) {
    Fiber& fiber = *running.fibers[i];
    if (fiber.waits == what) fiber.waits = Waits::no;
  }
  return waiting;
}

void run_block() {
  static std::mt19937 random(7);
  for (;;) {
    if (chosen_order == Order::shuffled) std::ranges::shuffle(running.order, random);
    bool ran = false;
    for (const size_t i : running.order) {
      Fiber& fiber = *running.fibers[i];
      if (fiber.waits != Waits::no) continue;
      ran = true;
      running.current = i;
      threadIdx = fiber.thread;
      enter_current();
    }
    for (size_t warp = 0; warp < running.count; warp += kWarpLanes)
      ran = release(warp, std::min(running.count, warp + kWarpLanes), Waits::for_warp) || ran;
    ran = release(0, running.count, Waits::for_block) || ran;
    const bool ended = std::all_of(
        running.fibers.begin(), running.fibers.begin() + static_cast<std::ptrdiff_t>(running.count),
        [](const auto& fiber) { return fiber->waits == Waits::ended; });
    if (ended) return;
    if (!ran) die("the threads of a block wait for each other at different barriers");
  }
}

}  // namespace

void block_barrier() {
  set_last_waits(Waits::for_block);
}
void warp_barrier() {
  set_last_waits(Waits::for_warp);
}
unsigned char* dynamic_shared() {
  return running.shared;
}
int lane() {
  return static_cast<int>(running.current % kWarpLanes);
}

namespace {

// Where all lanes of the warp have put their bytes. Two places in turn: when a lane puts something
// into the first again, all have passed the barrier of the second, and read the first before it.
const std::byte* put(const void* given, size_t bytes) {
  if (bytes > 64) die("a lane gives more than 64 bytes");
  unsigned& exchanges = running.fibers[running.current]->exchanges;
  auto& room = running.exchanged[running.current / kWarpLanes][exchanges++ % 2];
  std::memcpy(room.data() + static_cast<size_t>(lane()) * bytes, given, bytes);
  warp_barrier();
  return room.data();
}

}  // namespace

void gather(const void* given, void* all, size_t bytes) {
  std::memcpy(all, put(given, bytes), bytes * kWarpLanes);
}

void exchange(const void* given, void* got, size_t bytes, int from) {
  std::memcpy(got, put(given, bytes) + static_cast<size_t>(from) * bytes, bytes);
}

void set_order(Order order) {
  chosen_order = order;
}

void run_grid(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel) {
  gridDim = blocks;
  blockDim = threads;
  running.kernel = &kernel;
  for (unsigned z = 0; z < blocks.z; ++z) {
    for (unsigned y = 0; y < blocks.y; ++y) {
      for (unsigned x = 0; x < blocks.x; ++x) {
        blockIdx = {x, y, z};
        // What a block finds in shared memory is left over from others.
        std::memset(running.shared, 0xff, shared_bytes);
        prepare_fibers(threads);
        run_block();
      }
    }
  }
}

}  // namespace emulated

using emulated::fail_with;
using emulated::setting;

struct EmulatedGraph {
  std::vector<std::function<void()>> calls;
};

namespace {

std::vector<std::function<void()>> queue;
EmulatedGraph* captured = nullptr;  // while there is a capture
cudaError_t last_error = cudaSuccess;

size_t& given_out() {
  static size_t bytes = 0;
  return bytes;
}
std::map<void*, size_t>& blocks() {
  static std::map<void*, size_t> known;
  return known;
}
size_t capacity() {
  return static_cast<size_t>(setting("mebibytes", 4096)) << 20;
}

}  // namespace

long long emulated::setting(const std::string& name, long long usual) {
  const char* text = std::getenv("MORA_EMULATED_CUDA");
  const std::string all = text == nullptr ? "" : "," + std::string(text);
  const size_t at = all.find("," + name + "=");
  return at == std::string::npos ? usual : std::atoll(all.c_str() + at + name.size() + 2);
}

void emulated::enqueue(std::function<void()> work) {
  (captured != nullptr ? captured->calls : queue).push_back(std::move(work));
}
void emulated::fail_with(int error) {
  last_error = static_cast<cudaError_t>(error);
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "an emulated error";
}
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaErrorEmulated";
}
cudaError_t cudaGetLastError() {
  return std::exchange(last_error, cudaSuccess);
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(setting("devices", 1));
  if (setting("driver", 1) == 0) return cudaErrorInsufficientDriver;
  if (setting("ready", 1) == 0) return cudaErrorLaunchFailure;
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}
cudaError_t cudaSetDevice(int) {
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {};
  std::snprintf(properties->name, sizeof properties->name, "emulated device");
  properties->totalGlobalMem = capacity();
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const auto capability = static_cast<int>(setting("capability", 80));
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = 4;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = capability / 10;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = capability % 10;
      break;
    case cudaDevAttrConcurrentManagedAccess:
      *value = static_cast<int>(setting("managed", 1));
      break;
  }
  return cudaSuccess;
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  *total = capacity();
  *free = *total - given_out();
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = reinterpret_cast<cudaStream_t>(1);
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) {
  if (captured != nullptr) return cudaErrorLaunchFailure;  // a device allows no waiting either
  for (size_t i = 0; i < queue.size(); ++i) queue[i]();
  queue.clear();
  return setting("fail", 0) != 0 ? cudaErrorLaunchFailure : cudaSuccess;
}
cudaError_t cudaMalloc(void** data, size_t bytes) {
  if (captured != nullptr || given_out() + bytes > capacity()) return cudaErrorMemoryAllocation;
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  std::memset(*data, 0xff, bytes);
  blocks()[*data] = bytes;
  given_out() += bytes;
  return cudaSuccess;
}
cudaError_t cudaMallocManaged(void** data, size_t bytes, unsigned) {
  return cudaMalloc(data, bytes);
}
cudaError_t cudaFree(void* data) {
  if (data == nullptr) return cudaSuccess;
  cudaStreamSynchronize(nullptr);
  given_out() -= blocks().at(data);
  blocks().erase(data);
  std::free(data);
  return cudaSuccess;
}
// Memory is where it is; what is given must be a block of it.
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, cudaMemLocation, unsigned,
                                 cudaStream_t) {
  const auto block = blocks().find(const_cast<void*>(data));
  return block != blocks().end() && bytes <= block->second ? cudaSuccess : cudaErrorInvalidValue;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t) {
  emulated::enqueue([=] { std::memset(to, byte, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  emulated::enqueue([=] { std::memmove(to, from, bytes); });
  return cudaSuccess;
}
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind, cudaStream_t) {
  emulated::enqueue([=] {
    for (size_t row = 0; row < height; ++row) {
      std::memmove(static_cast<char*>(to) + row * to_pitch,
                   static_cast<const char*>(from) + row * from_pitch, width);
    }
  });
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
  captured = new EmulatedGraph;
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t* graph) {
  *graph = std::exchange(captured, nullptr);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph, unsigned long long) {
  *made = new EmulatedGraph(*graph);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
  queue.insert(queue.end(), graph->calls.begin(), graph->calls.end());
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) {
  delete graph;
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int value) {
  const auto most = static_cast<int>(emulated::setting("shared", emulated::kMostShared));
  if (value <= most) return cudaSuccess;
  fail_with(cudaErrorInvalidValue);
  return cudaErrorInvalidValue;
}
cudaError_t emulated_check(const cudaLaunchConfig_t& config) {
  const dim3 t = config.blockDim, g = config.gridDim;
  const bool threads = t.x * t.y * t.z >= 1 && t.x * t.y * t.z <= 1024;
  const bool blocks = g.x >= 1 && g.y >= 1 && g.z >= 1 && g.y < 65536 && g.z < 65536;
  const bool shared = config.dynamicSmemBytes <= emulated::kMostShared;
  return threads && blocks && shared ? cudaSuccess : cudaErrorInvalidConfiguration;
}
