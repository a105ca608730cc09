// mora-load-model MODEL_DIR [auto|float32]: loads the model of a Hugging Face folder and prints
// what that took: stored_bytes, memory_bytes (of the weights), peak_bytes (of the process since
// just before), seconds. scripts/bench/load.sh runs it.
#include <chrono>
#include <cstdio>
#include <string_view>

#include "mora/io/safetensors_folder.hpp"
#include "mora/models/llama.hpp"
#include "resident_memory.hpp"

namespace {

void load(const std::filesystem::path& folder, bool stored) {
  using Clock = std::chrono::steady_clock;
  const int64_t before = mora::testing::resident_bytes();
  mora::testing::reset_peak();
  const auto start = Clock::now();
  const mora::LlamaConfig config = mora::read_llama_config(folder / "config.json");
  const mora::SafetensorsFolder files(folder);
  mora::ParameterStore store(mora::DType::f32,
                             stored ? mora::stored_matrix_type(files) : mora::DType::f32);
  const mora::Llama model(config, store, mora::Training::frozen);
  store.allocate();
  mora::load_weights(store, config, folder);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  uint64_t bytes = 0, memory = 0;
  for (const auto& file : files.files()) bytes += std::filesystem::file_size(file.path());
  for (const mora::Parameter& p : store.all()) memory += p.value.bytes();
  std::printf("stored_bytes %llu\nmemory_bytes %llu\npeak_bytes %lld\nseconds %.3f\n",
              static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(memory),
              static_cast<long long>(mora::testing::peak_resident_bytes() - before), seconds);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view type = argc > 2 ? argv[2] : "auto";
  if (argc < 2 || argc > 3 || (type != "auto" && type != "float32")) {
    std::fprintf(stderr, "usage: mora-load-model MODEL_DIR [auto|float32]\n");
    return 2;
  }
  try {
    load(argv[1], type == "auto");
    return 0;
  } catch (const mora::Error& e) {
    std::fprintf(stderr, "mora-load-model: %s\n", e.what());
    return e.exit_code();
  }
}
