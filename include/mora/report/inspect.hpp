// What a file or folder of weights holds, and how a model was changed: the report of mora-inspect.
#pragma once

#include <filesystem>
#include <string>

namespace mora {

struct InspectOptions {
  std::filesystem::path path;   // a safetensors or GGUF file; a model's, adapter's, checkpoint's
                                // or run's folder: of the latter two the update, too
  std::filesystem::path other;  // unless empty: weights of the same model; its change is described
  std::filesystem::path model;  // an adapter's base; empty: base_model_name_or_path, if it is here
  double threshold = 0.1;       // singular values above it are counted
  int64_t top = 0;              // so many of the largest are shown with each matrix
};

struct Inspection {
  std::string text;  // tables, for people
  std::string json;  // one document with all of it, every singular value included
};

// Error(data) for files that are broken or hold no weights, Error(usage) for a pair that cannot be
// compared. An adapter that this program cannot apply is listed, and the report says why its
// singular values are not.
Inspection inspect(const InspectOptions& options);

}  // namespace mora
