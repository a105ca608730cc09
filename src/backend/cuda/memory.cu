#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "backend/cuda/device.hpp"
#include "backend/cuda/memory.hpp"

namespace mora::cuda {

namespace {

constexpr size_t kReserve = size_t{1} << 30;  // for libraries, modules and graphs, loaded later
constexpr size_t kSmall = size_t{1} << 20;    // below, the program clears memory itself

cudaError_t prefetch(void* data, size_t bytes) {
#if CUDART_VERSION >= 13000
  return cudaMemPrefetchAsync(data, bytes, {cudaMemLocationTypeDevice, 0}, 0, stream());
#else
  return cudaMemPrefetchAsync(data, bytes, 0, stream());
#endif
}

// The system promises more unified memory than the device has, and would move pages to and fro: so
// what is given out is counted here.
class DeviceMemory final : public MemorySource {
 public:
  DeviceMemory() : name_(device_name()) {
    size_t total = 0;
    check(cudaMemGetInfo(&left_, &total), "asking for the device's memory");
    left_ -= std::min(left_ / 32, kReserve);
  }

  void* allocate(size_t bytes, Fill fill) override {
    if (bytes > left_) {
      fail(ErrorKind::memory, "out of memory: a block of ", bytes >> 20, " MiB is needed, ",
           left_ >> 20, " MiB are left in ", name_);
    }
    void* data = nullptr;
    check(cudaMallocManaged(&data, bytes, cudaMemAttachGlobal),
          str("asking for a block of ", bytes >> 20, " MiB"));
    blocks_.emplace_back(data, bytes);
    left_ -= bytes;
    if (fill == Fill::zeros) clear(data, bytes);
    return data;
  }

  void release(void* data) override {
    const auto block = std::ranges::find(blocks_, data, &Block::first);
    left_ += block->second;
    blocks_.erase(block);
    cudaFree(data);  // waits for kernels
  }

  size_t available() const override { return left_; }
  std::string_view name() const override { return name_; }

  void bring() const {
    for (const auto& [data, bytes] : blocks_) {
      if (bytes >= kSmall) check(prefetch(data, bytes), "moving memory to the device");
    }
  }

 private:
  using Block = std::pair<void*, size_t>;

  // Large blocks by the device, where their pages then are.
  static void clear(void* data, size_t bytes) {
    if (bytes < kSmall) {
      std::memset(data, 0, bytes);
      return;
    }
    check(cudaMemsetAsync(data, 0, bytes, stream()), "clearing memory");
    wait();
  }

  std::string name_;
  std::vector<Block> blocks_;
  size_t left_ = 0;
};

// Never destroyed, as buffers may outlive everything else.
const std::shared_ptr<DeviceMemory>& the_memory() {
  static const auto* memory = new std::shared_ptr<DeviceMemory>(std::make_shared<DeviceMemory>());
  return *memory;
}

}  // namespace

std::shared_ptr<MemorySource> device_memory() {
  return the_memory();
}

void bring_memory() {
  the_memory()->bring();
}

}  // namespace mora::cuda
