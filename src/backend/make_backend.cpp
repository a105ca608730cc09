// Devices by the names that configurations give them.
#include "backend/cuda.hpp"
#include "mora/backend/backend.hpp"

namespace mora {

std::unique_ptr<Backend> make_backend(std::string_view device, MatmulProvider provider) {
  return device == "cuda" ? make_cuda_backend() : make_cpu_backend(provider);
}

std::vector<std::string> devices() {
  return {"cpu", "cuda"};
}

std::string accelerators() {
  return cuda_version();
}

}  // namespace mora
