// mora-check-model MODEL_DIR GOLDEN [ADAPTER_DIR]: compares a model, with an adapter if one is
// given, with the numbers that transformers computed for it (tests/golden/make_model_goldens.py);
// exit code 1 when they differ.
#include <cstdio>

#include "model_parity.hpp"
#include "mora/core/error.hpp"

int main(int argc, char** argv) {
  try {
    if (argc != 3 && argc != 4) {
      mora::fail(mora::ErrorKind::usage, "usage: mora-check-model MODEL_DIR GOLDEN [ADAPTER_DIR]");
    }
    const mora::testing::ModelParity p =
        mora::testing::compare_with_golden(argv[1], argv[2], argc == 4 ? argv[3] : "");
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
