// Session: a model ready to train or to score, put together from a configuration.
#pragma once

#include <memory>

#include "mora/backend/backend.hpp"
#include "mora/config/run_config.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"
#include "mora/tasks/task.hpp"
#include "mora/text/tokenizer.hpp"

namespace mora::apps {

struct Session {
  RunConfig config;
  std::filesystem::path tokenizer_path;  // file or folder
  std::unique_ptr<Tokenizer> tokenizer;
  std::unique_ptr<Backend> backend;
  UseMemory memory;  // of the backend, for all that follows
  Workspace workspace;
  std::unique_ptr<ParameterStore> store;
  std::unique_ptr<Llama> model;

  // Every mismatch between configuration, tokenizer and weights is an Error here. Weights are
  // loaded, or initialised from the seed when model.config is given; adapters are attached and
  // initialised.
  Session(RunConfig run, Training weights);

  ScoredModel scored() { return {*model, *store, *backend, workspace}; }
};

// The tokenizer of a file or folder, for this model: Error(data) where it has tokens that the model
// has no rows for. The vocabulary is never resized.
std::unique_ptr<Tokenizer> load_tokenizer_for(const LlamaConfig& model,
                                              const std::filesystem::path& file_or_folder);

// Maps engine.* to the process: number of threads, provider of matrix products.
std::unique_ptr<Backend> configure_engine(const EngineConfig& engine);

// Writes to standard output, at once and checked: Error(io) when it cannot.
void print(std::string_view text);

// Runs a program's body and turns errors into one line on stderr and the documented exit code.
int guarded(const char* program, int (*body)(int, char**), int argc, char** argv);

// "mora-train 0.1.0 (oneDNN, gcc 12.2.0, ...)"
std::string version_text(const char* program);

}  // namespace mora::apps
