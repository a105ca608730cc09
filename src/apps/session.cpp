#include "apps/session.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "mora/adapters/adapters.hpp"
#include "mora/adapters/files.hpp"
#include "mora/core/parallel.hpp"
#include "mora/io/text.hpp"
#include "mora/train/restarts.hpp"

namespace mora::apps {

namespace {

// Not an error: the base may be the same in another type. Merging, which makes files, refuses.
void warn_of_other_base(const RunConfig& config) {
  const std::filesystem::path& adapter = config.adapter.file.folder;
  if (adapter.empty() || may_belong_to(adapter, SafetensorsFolder(config.model.path))) return;
  std::fprintf(stderr,
               "warning: %s: other weights, or in another type, than the adapter %s was trained "
               "on; if it is another model, the results mean nothing: give the adapter's own\n",
               config.model.path.c_str(), adapter.c_str());
}

// Merges add small changes to frozen matrices, of which half precision would lose most.
DType frozen_type(const ModelConfig& model, bool merges, bool multiplied_in_bf16) {
  if (model.dtype == "bfloat16") {
    if (merges) {
      std::fputs(
          "note: model.dtype is bfloat16: merged updates are rounded to it; \"auto\" keeps "
          "the matrices in float32\n",
          stderr);
    }
    return DType::bf16;
  }
  const bool stored = model.dtype == "auto" && !model.path.empty() && !merges;
  if (stored && multiplied_in_bf16) return DType::bf16;
  return stored ? stored_matrix_type(SafetensorsFolder(model.path)) : DType::f32;
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_for(const LlamaConfig& model,
                                              const std::filesystem::path& file_or_folder) {
  std::unique_ptr<Tokenizer> tokenizer = load_tokenizer(file_or_folder);
  if (tokenizer->vocab_size() > model.vocab_size) {
    fail(ErrorKind::data, printable(file_or_folder.string()), ": the tokenizer has ",
         tokenizer->vocab_size(), " tokens, but the model's vocab_size is ", model.vocab_size,
         "; give the model's own tokenizer");
  }
  return tokenizer;
}

std::unique_ptr<Backend> configure_engine(const EngineConfig& engine) {
  if (engine.threads > 0) set_thread_count(static_cast<int>(engine.threads));
  const MatmulProvider provider = engine.matmul == "onednn"  ? MatmulProvider::onednn
                                  : engine.matmul == "eigen" ? MatmulProvider::eigen
                                                             : MatmulProvider::automatic;
  return make_backend(engine.device, provider);
}

Session::Session(RunConfig run, Training weights)
    : config(std::move(run)), backend(configure_engine(config.engine)), memory(backend->memory()) {
  const ModelConfig& m = config.model;
  const bool scratch = m.path.empty();
  const LlamaConfig llama = read_llama_config(scratch ? m.config : m.path / "config.json");
  tokenizer_path = m.tokenizer.empty() ? m.path : m.tokenizer;
  tokenizer = load_tokenizer_for(llama, tokenizer_path);
  const bool full = config.adapter.method == "full";
  const Training training = full ? weights : Training::frozen;
  const bool merges = weights == Training::trained && config.restart.enabled();
  const bool in_bf16 = weights == Training::trained && config.train.in_bf16();
  store = std::make_unique<ParameterStore>(DType::f32, frozen_type(m, merges, in_bf16));
  model = std::make_unique<Llama>(llama, *store, training);
  if (!full) attach_adapters(config.adapter, *store, model->linears());
  if (!full && weights == Training::trained) {
    train_saved_modules(config.adapter, *store);
    set_loraplus_ratio(*store, config.train.loraplus_lr_ratio);
  }
  if (merges) count_adapter_steps_apart(*store);
  store->allocate();
  const auto seed = static_cast<uint64_t>(config.seed);
  if (scratch) {
    store->initialise(seed);
  } else {
    warn_of_other_base(config);
    load_weights(*store, llama, m.path);
  }
  initialise_adapters(*store, seed, model->linears());
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0)
    return;
  fail(ErrorKind::io, "cannot write to standard output: ", std::strerror(errno));
}

namespace {

#if defined(__AVX512F__)
#define MORA_VECTORS "AVX-512"
#define MORA_VECTORS_ARE_THERE __builtin_cpu_supports("avx512f")
#elif defined(__AVX2__)
#define MORA_VECTORS "AVX2"
#define MORA_VECTORS_ARE_THERE __builtin_cpu_supports("avx2")
#else
#define MORA_VECTORS "baseline"
#define MORA_VECTORS_ARE_THERE true
#endif

void check_processor() {
  if (MORA_VECTORS_ARE_THERE) return;
  fail(ErrorKind::usage,
       "this program was built for " MORA_VECTORS
       ", which this processor has not; build it here, or with -DMORA_ARCH=x86-64-v3 (AVX2)");
}

}  // namespace

int guarded(const char* program, int (*body)(int, char**), int argc, char** argv) {
  try {
    check_processor();
    return body(argc, argv);
  } catch (const Error& e) {
    std::fprintf(stderr, "%s: %s\n", program, e.what());
    return e.exit_code();
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "%s: out of memory\n", program);
    return static_cast<int>(ErrorKind::memory);
  } catch (const std::filesystem::filesystem_error& e) {
    std::fprintf(stderr, "%s: %s\n", program, e.what());
    return static_cast<int>(ErrorKind::io);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "%s: internal error: %s\n", program, e.what());
    return static_cast<int>(ErrorKind::internal);
  }
}

std::string version_text(const char* program) {
  const std::string bf16 =
      multiplies_bf16() ? str("by ", multiplier_of_bf16()) : std::string("in fp32");
  const std::string others = accelerators().empty() ? "" : ", " + accelerators();
  return str(program, " ", MORA_VERSION, " (", has_onednn() ? "oneDNN and Eigen" : "Eigen",
             ", " MORA_VECTORS " kernels, bf16 products ", bf16, others, ", compiled by ",
#ifdef __clang__
             "clang ",
#else
             "gcc ",
#endif
             __VERSION__, ")");
}

}  // namespace mora::apps
