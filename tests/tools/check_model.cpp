// mora-check-model [--f64] MODEL_DIR GOLDEN [ADAPTER_DIR]: compares a model, with an adapter if one
// is given, with the numbers that transformers computed for it
// (tests/golden/make_model_goldens.py), computing in f32 or f64; exit code 1 when they differ.
#include <cstdio>
#include <string>
#include <vector>

#include "model_parity.hpp"
#include "mora/core/error.hpp"

int main(int argc, char** argv) {
  try {
    std::vector<std::string> paths(argv + 1, argv + argc);
    const bool wide = std::erase(paths, "--f64") > 0;
    if (paths.size() != 2 && paths.size() != 3) {
      mora::fail(mora::ErrorKind::usage,
                 "usage: mora-check-model [--f64] MODEL_DIR GOLDEN [ADAPTER_DIR]");
    }
    paths.resize(3);
    const mora::testing::ModelParity p = mora::testing::compare_with_golden(
        paths[0], paths[1], paths[2], wide ? mora::DType::f64 : mora::DType::f32);
    std::printf(
        "logits over %lld tokens: largest relative difference %.2g; greedy: %lld of %lld "
        "tokens equal\n",
        static_cast<long long>(p.tokens), p.logits_error, static_cast<long long>(p.equal),
        static_cast<long long>(p.continuation));
    return p.logits_error < 1e-4 && p.equal == p.continuation ? 0 : 1;
  } catch (const mora::Error& e) {
    std::fprintf(stderr, "mora-check-model: %s\n", e.what());
    return e.exit_code();
  }
}
