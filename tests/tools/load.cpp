// mora-load MODEL_DIR: loads a model as mora-train and mora-generate do, and says how long that
// took and how much memory the process needed at most.
#include <chrono>
#include <cstdio>

#include "apps/session.hpp"
#include "mora/report/metrics.hpp"

namespace {

int body(int argc, char** argv) {
  if (argc != 2) mora::fail(mora::ErrorKind::usage, "usage: mora-load MODEL_DIR");
  const mora::SafetensorsFolder folder(argv[1]);
  double stored = 0;
  for (const mora::SafetensorsFile& file : folder.files()) {
    for (const auto& [name, info] : file.tensors())
      stored += static_cast<double>(info.end - info.begin);
  }
  mora::RunConfig config;
  config.model.path = argv[1];
  config.adapter.method = "full";
  const auto start = std::chrono::steady_clock::now();
  const mora::apps::Session session(config, mora::Training::frozen);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::printf("%.1f MB stored, loaded in %.2f s (%.0f MB/s), peak memory %.3f of what is stored\n",
              stored / 1e6, seconds.count(), stored / 1e6 / seconds.count(),
              static_cast<double>(mora::peak_memory()) / stored);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return mora::apps::guarded("mora-load", body, argc, argv);
}
