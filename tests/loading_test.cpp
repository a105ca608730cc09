// Loading a model takes the memory of its weights and hardly more, whatever the files' type and
// however they are cut; hashing it takes next to none; 16-bit weights that stay as they are stored
// mean the same as widened ones.
#include <doctest/doctest.h>
#include <malloc.h>

#include <cstring>

#include "mora/io/tensor_rows.hpp"
#include "resident_memory.hpp"
#include "temporary_folder.hpp"
#include "tiny_training.hpp"

TEST_SUITE_BEGIN("loading");

namespace mora::testing {
namespace {

// A model of 16 million numbers, most of them in two matrices.
LlamaConfig large_config() {
  LlamaConfig c = tiny_config({});
  c.vocab_size = 30000;
  c.hidden_size = 256;
  c.head_dim = 64;
  c.intermediate_size = 512;
  return c;
}

// Its weights in a folder; values of the type, in files of at most `limit` bytes.
void save(const TemporaryFolder& folder, const LlamaConfig& config, const std::string& type,
          uint64_t limit) {
  ParameterStore store;
  const Llama model(config, store, Training::frozen);
  store.allocate();
  store.initialise(3);
  std::vector<StoredTensor> tensors;
  for (const Parameter& p : store.all()) {
    const auto dims = p.shape.dims();
    tensors.push_back({.name = p.name,
                       .dtype = type,
                       .shape = {dims.begin(), dims.end()},
                       .write = [rows = rows_of(p.name, p.value), &type](const ByteSink& sink) {
                         write_rows(rows, ggml_type(type), sink);
                       }});
  }
  write_safetensors_folder(folder.path(), tensors, limit);
}

struct Loaded {
  ParameterStore store;
  Llama model;

  Loaded(const LlamaConfig& config, DType matrices, const std::filesystem::path& folder)
      : store(DType::f32, matrices), model(config, store, Training::frozen) {
    store.allocate();
    load_weights(store, config, folder);
  }
};

TEST_CASE("the peak of memory while loading is that of the stored weights") {
#ifdef __SANITIZE_ADDRESS__
  return;  // has memory of its own
#endif
  const LlamaConfig config = large_config();
  for (const std::string type : {"F32", "BF16", "F16"}) {
    for (const uint64_t limit : {kMaxShardBytes, uint64_t{8} << 20}) {
      CAPTURE(type);
      CAPTURE(limit);
      const TemporaryFolder folder;
      save(folder, config, type, limit);
      const SafetensorsFolder files(folder.path());
      CHECK((files.files().size() > 1) == (limit < kMaxShardBytes));
      int64_t stored = 0;
      for (const auto& file : files.files())
        stored += static_cast<int64_t>(std::filesystem::file_size(file.path()));
      ::malloc_trim(0);  // or the weights would go where earlier ones were
      const int64_t before = resident_bytes();
      if (!reset_peak()) return;
      const Loaded loaded(config, stored_matrix_type(files), folder.path());
      const int64_t peak = peak_resident_bytes() - before;
      CHECK_MESSAGE(peak < stored + stored / 20 + (int64_t{2} << 20), peak, " for ", stored);
      CHECK(peak > stored / 2);  // it has been measured
    }
  }
}

TEST_CASE("hashing the weights takes a few pages of them at a time") {
#ifdef __SANITIZE_ADDRESS__
  return;  // has memory of its own
#endif
  const TemporaryFolder folder;
  save(folder, large_config(), "F32", kMaxShardBytes);
  const SafetensorsFolder files(folder.path());
  tensors_sha256(files);  // the library's own memory is there
  const int64_t before = resident_bytes();
  if (!reset_peak()) return;
  tensors_sha256(files);
  // The largest matrix has 30 MB.
  CHECK(peak_resident_bytes() - before < int64_t{8} << 20);
}

TEST_CASE("the stored type is that of all matrices, or f32") {
  const LlamaConfig config = tiny_config({});
  const std::pair<const char*, DType> types[] = {
      {"F32", DType::f32}, {"BF16", DType::bf16}, {"F16", DType::f16}};
  for (const auto& type : types) {
    const TemporaryFolder folder;
    save(folder, config, type.first, kMaxShardBytes);
    CHECK(stored_matrix_type(SafetensorsFolder(folder.path())) == type.second);
    const Loaded narrow(config, type.second, folder.path()),
        wide(config, DType::f32, folder.path());
    for (size_t i = 0; i < wide.store.all().size(); ++i) {
      const Tensor& a = narrow.store.all()[i].value;
      OwnedTensor widened({DType::f32, a.shape()});
      convert(a, widened.view());
      const Tensor& b = wide.store.all()[i].value;
      CHECK(std::memcmp(widened.view().data, b.data, b.bytes()) == 0);
    }
  }
  const TemporaryFolder folder;
  const OwnedTensor a({DType::bf16, {2, 2}}), b({DType::f16, {2, 2}}), c({DType::f32, {2}});
  write_safetensors_folder(
      folder.path(),
      std::vector{stored({"a", a.view()}), stored({"b", b.view()}), stored({"c", c.view()})},
      kMaxShardBytes);
  CHECK(stored_matrix_type(SafetensorsFolder(folder.path())) == DType::f32);
}

TEST_CASE("training over 16-bit weights is training over the same weights widened, bit for bit") {
  const TinyExamples data(13);
  for (const char* method : {"lora", "mora"}) {
    for (const DType type : {DType::bf16, DType::f16}) {
      for (const MatmulProvider provider : {MatmulProvider::eigen, MatmulProvider::automatic}) {
        CAPTURE(method);
        CAPTURE(name_of(type));
        const AdapterConfig adapter = adapter_kind(method, *method == 'm' ? "sharing" : "").config;
        const TrainConfig train = tiny_train_config(3);
        TinyTraining narrow(
            {.adapter = adapter, .model = {.frozen_matrices = type}, .provider = provider}, data,
            train),
            wide({.adapter = adapter, .provider = provider}, data, train);
        for (size_t i = 0; i < wide.tiny.store.all().size(); ++i)
          convert(narrow.tiny.store.all()[i].value, wide.tiny.store.all()[i].value);
        CHECK(narrow.steps(4) == wide.steps(4));
        CHECK(narrow.state() == wide.state());
      }
    }
  }
}

}  // namespace
}  // namespace mora::testing

TEST_SUITE_END();
