#include "backend/cuda/cublas.hpp"
#include "mora/core/error.hpp"
#ifdef __CUDACC__
#include <dlfcn.h>

#include <string>
#endif

namespace mora::cuda {

namespace {

#ifdef __CUDACC__

// Where the system looks, or where it was when the program was built.
void* open_library() {
  const std::string name = str("libcublasLt.so.", CUBLAS_VER_MAJOR);
  for (const std::string& path : {name, str(MORA_CUDA_LIBRARY_DIR "/", name)}) {
    if (void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  fail(ErrorKind::usage, "device: ", name,
       " was not found; install CUDA's cuBLAS, name its folder in ",
       "LD_LIBRARY_PATH, or choose \"cpu\"");
}

void* find(void* library, const char* name) {
  void* function = ::dlsym(library, name);
  if (function == nullptr)
    fail(ErrorKind::usage, "device: this cuBLAS has no ", name, "; install one of CUDA 12 or 13");
  return function;
}

Cublas open() {
  void* library = open_library();
#define MORA_CUBLAS_FIND(name) reinterpret_cast<decltype(&::name)>(find(library, #name)),
  return {MORA_CUBLAS_FUNCTIONS(MORA_CUBLAS_FIND)};
#undef MORA_CUBLAS_FIND
}

#else

Cublas open() {  // the emulated one is linked
#define MORA_CUBLAS_ADDRESS(name) &::name,
  return {MORA_CUBLAS_FUNCTIONS(MORA_CUBLAS_ADDRESS)};
#undef MORA_CUBLAS_ADDRESS
}

#endif

}  // namespace

const Cublas& cublas() {
  static const Cublas opened = open();
  return opened;
}

}  // namespace mora::cuda
