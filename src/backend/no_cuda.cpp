// In place of src/backend/cuda/ where the program is built without it.
#include "backend/cuda.hpp"

namespace mora {

std::unique_ptr<Backend> make_cuda_backend() {
  fail(ErrorKind::usage,
       "device: this program was built without CUDA; install its toolkit and build again with "
       "-DMORA_CUDA=ON, or choose \"cpu\"");
}

std::string cuda_version() {
  return "";
}

}  // namespace mora
