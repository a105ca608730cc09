#include <algorithm>
#include <optional>
#include <utility>

#include "backend/cuda/device.hpp"

namespace mora::cuda {

namespace {

struct Device {
  std::string name;
  int multiprocessors = 0;
  cudaStream_t stream = nullptr;
};

// Never destroyed: the driver may be gone when static objects are.
std::optional<Device>& opened() {
  static auto* device = new std::optional<Device>;
  return *device;
}

const Device& device() {
  ensure(opened().has_value(), "no device has been opened");
  return *opened();
}

[[noreturn]] void refuse(const std::string& why) {
  fail(ErrorKind::usage, "device: ", why, "; choose \"cpu\", or run where there is one");
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "asking the device what it is");
  return value;
}

constexpr int kOldest = 80;  // compute capability 8.0: bf16 products, asynchronous copies

}  // namespace

void check(cudaError_t result, std::string_view doing) {
  if (result == cudaSuccess) return;
  const ErrorKind kind =
      result == cudaErrorMemoryAllocation ? ErrorKind::memory : ErrorKind::internal;
  fail(kind, "CUDA, ", doing, ": ", cudaGetErrorString(result), " (", cudaGetErrorName(result),
       ")");
}

void open_device() {
  if (opened()) return;
  int count = 0;
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (found == cudaErrorInsufficientDriver)
    refuse("no NVIDIA driver, or one too old for this program");
  if (found != cudaSuccess && found != cudaErrorNoDevice)
    refuse(str("no CUDA device can be used: ", cudaGetErrorString(found)));
  if (count == 0) refuse("no CUDA device is visible");
  check(cudaSetDevice(0), "opening the device");
  Device device;
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "asking the device what it is");
  device.name = properties.name;
  const int capability = 10 * attribute(cudaDevAttrComputeCapabilityMajor) +
                         attribute(cudaDevAttrComputeCapabilityMinor);
  if (capability < kOldest) {
    refuse(str(device.name, " has compute capability ", capability / 10, ".", capability % 10,
               ", at least 8.0 is needed"));
  }
  if (attribute(cudaDevAttrConcurrentManagedAccess) == 0)
    refuse(str(device.name, " shares no memory with the program here (concurrentManagedAccess)"));
  device.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  check(cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking), "making a stream");
  opened() = device;
}

cudaStream_t stream() {
  return device().stream;
}
std::string device_name() {
  return device().name;
}
int multiprocessors() {
  return device().multiprocessors;
}

namespace {

struct Failure {
  const char *doing = nullptr, *why = nullptr;
} first_failure;

}  // namespace

void note_failure(const char* doing, const char* why) {
  if (first_failure.doing == nullptr) first_failure = {doing, why};
}

void wait() {
  check(cudaGetLastError(), "starting a kernel");
  check(cudaStreamSynchronize(stream()), "running kernels");
  const Failure failure = std::exchange(first_failure, {});
  if (failure.doing != nullptr) fail(ErrorKind::internal, failure.doing, ": ", failure.why);
}

}  // namespace mora::cuda
