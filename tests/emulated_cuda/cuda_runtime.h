// CUDA's runtime, as far as src/backend/cuda uses it, on the processor: found before NVIDIA's
// header, it lets the same kernels be compiled as C++ and tested where there is no device.
//
// It checks what a device leaves to chance: kernels and copies run no sooner than they are waited
// for, a capture keeps what was called and nothing else, and the threads of a block run one after
// the other, in an order that a test chooses, from one barrier to the next, so that a missing
// barrier shows. What it cannot show is speed, memory spaces, and how the device rounds.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __launch_bounds__(...)
#define __forceinline__ inline
#define __align__(bytes) alignas(bytes)

#define CUDART_VERSION 13000

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1)  // NOLINT: as CUDA has it
      : x(x_), y(y_), z(z_) {}
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace emulated {

void block_barrier();
void warp_barrier();
unsigned char* dynamic_shared();
int lane();

// Every lane gives bytes and gets those of lane `from` of its warp.
void exchange(const void* given, void* got, size_t bytes, int from);
// The bytes that all 32 lanes gave, in their order; of lanes that have ended, zeros.
void gather(const void* given, void* all, size_t bytes);

// The order in which threads run from one barrier to the next.
enum class Order { forward, backward, shuffled };
void set_order(Order order);

// Queues work on the one stream there is, or keeps it for the graph that is being captured.
void enqueue(std::function<void()> work);
void run_grid(dim3 blocks, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel);

// What the next cudaGetLastError() returns.
void fail_with(int error);

// What kind of machine this is: "name=value" in MORA_EMULATED_CUDA, several with commas between.
long long setting(const std::string& name, long long usual);

}  // namespace emulated

inline void __syncthreads() {
  ::emulated::block_barrier();
}
inline void __syncwarp(unsigned = 0xffffffffu) {
  ::emulated::warp_barrier();
}
template <class T>
T __shfl_sync(unsigned, T value, int from) {
  T got;
  ::emulated::exchange(&value, &got, sizeof(T), from & 31);
  return got;
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  T got;
  ::emulated::exchange(&value, &got, sizeof(T), ::emulated::lane() ^ mask);
  return got;
}
template <class T>
T __shfl_down_sync(unsigned, T value, int by) {
  T got;
  const int from = ::emulated::lane() + by;
  ::emulated::exchange(&value, &got, sizeof(T), from < 32 ? from : ::emulated::lane());
  return got;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  std::array<unsigned char, 32> all{};
  const unsigned char own = predicate != 0;
  ::emulated::gather(&own, all.data(), 1);
  unsigned bits = 0;
  for (unsigned i = 0; i < 32; ++i) bits |= unsigned{all[i]} << i;
  return bits;
}
inline int __ffs(unsigned bits) {
  return __builtin_ffs(static_cast<int>(bits));
}
inline int __popc(unsigned bits) {
  return std::popcount(bits);
}
template <class T>
T __ldg(const T* at) {
  return *at;
}
inline float __expf(float x) {
  return std::exp(x);
}
inline float __fdividef(float x, float y) {
  return x / y;
}
inline float rsqrtf(float x) {
  return 1.0f / std::sqrt(x);
}

// The runtime's functions -----------------------------------------------------------------------

enum cudaError_t : int {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorLaunchFailure = 719
};
const char* cudaGetErrorString(cudaError_t error);
const char* cudaGetErrorName(cudaError_t error);
cudaError_t cudaGetLastError();

using cudaStream_t = struct CUstream_st*;
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaMemAttachGlobal = 1;

struct cudaDeviceProp {
  char name[256];
  size_t totalGlobalMem;
  int major, minor;
};
enum cudaDeviceAttr {
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrConcurrentManagedAccess
};
cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemGetInfo(size_t* free, size_t* total);

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaMallocManaged(void** data, size_t bytes, unsigned flags);
cudaError_t cudaMalloc(void** data, size_t bytes);
cudaError_t cudaFree(void* data);

enum cudaMemLocationType { cudaMemLocationTypeDevice = 1 };
struct cudaMemLocation {
  cudaMemLocationType type;
  int id;
};
cudaError_t cudaMemPrefetchAsync(const void* data, size_t bytes, cudaMemLocation to, unsigned flags,
                                 cudaStream_t stream);

enum cudaMemcpyKind { cudaMemcpyDefault, cudaMemcpyDeviceToDevice };
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemcpy2DAsync(void* to, size_t to_pitch, const void* from, size_t from_pitch,
                              size_t width, size_t height, cudaMemcpyKind kind,
                              cudaStream_t stream);

using cudaGraph_t = struct EmulatedGraph*;
using cudaGraphExec_t = struct EmulatedGraph*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* made, cudaGraph_t graph,
                                 unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  void* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value);

// The limits of compute capability 8.0.
cudaError_t emulated_check(const cudaLaunchConfig_t& config);

template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  if (const cudaError_t wrong = emulated_check(*config); wrong != cudaSuccess) {
    emulated::fail_with(wrong);
    return wrong;
  }
  // By value, as a device gets them.
  std::tuple<std::decay_t<Parameters>...> kept(std::forward<Arguments>(arguments)...);
  emulated::enqueue([c = *config, kernel, kept] {
    emulated::run_grid(c.gridDim, c.blockDim, c.dynamicSmemBytes,
                       [&] { std::apply(kernel, kept); });
  });
  return cudaSuccess;
}
