// scripts/convert_llama2c.py on a small random checkpoint: the converted model computes what
// llama2.c's own formulas give, written here once more with plain loops, and its tokenizer cuts
// text as llama2.c does.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>

#include "command.hpp"
#include "mora/core/random.hpp"
#include "mora/models/llama.hpp"
#include "mora/nn/context.hpp"
#include "mora/plan/plan.hpp"
#include "mora/text/tokenizer.hpp"
#include "worse.hpp"

TEST_SUITE_BEGIN("convert");

namespace mora::testing {
namespace {

namespace fs = std::filesystem;
using Row = std::vector<float>;

constexpr int32_t kDim = 16, kHidden = 24, kLayers = 2, kHeads = 4, kKvHeads = 2, kPositions = 32;
constexpr int32_t kHeadDim = kDim / kHeads, kKvDim = kHeadDim * kKvHeads;

const std::vector<std::string>& words() {
  static const std::vector<std::string> list = {" ",  "a", "b",  "c",   "ab",  " a", "bc",
                                                "ca", "é", "  ", " ab", "abc", "e",  "cab"};
  return list;
}
const int32_t kVocab = 3 + 256 + static_cast<int32_t>(words().size());

float score_of(size_t word) {
  return -static_cast<float>((word * 5) % words().size());
}

template <class T>
void put(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// A checkpoint in memory: tensors by llama2.c's names, in the order of its file.
struct Checkpoint {
  std::vector<std::pair<std::string, Row>> tensors;

  Checkpoint() {
    const std::pair<const char*, int32_t> sizes[] = {{"emb", kVocab * kDim},
                                                     {"rms_att", kLayers * kDim},
                                                     {"wq", kLayers * kDim * kDim},
                                                     {"wk", kLayers * kKvDim * kDim},
                                                     {"wv", kLayers * kKvDim * kDim},
                                                     {"wo", kLayers * kDim * kDim},
                                                     {"rms_ffn", kLayers * kDim},
                                                     {"w1", kLayers * kHidden * kDim},
                                                     {"w2", kLayers * kDim * kHidden},
                                                     {"w3", kLayers * kHidden * kDim},
                                                     {"rms_final", kDim},
                                                     {"freq_re", kPositions * kHeadDim / 2},
                                                     {"freq_im", kPositions * kHeadDim / 2}};
    for (const auto& [name, size] : sizes) {
      const Random random(7, Purpose::test, stream_of(name));
      Row values(static_cast<size_t>(size));
      for (size_t i = 0; i < values.size(); ++i)
        values[i] = static_cast<float>(0.5 * random.normal(i));
      tensors.emplace_back(name, std::move(values));
    }
  }

  const float* at(const std::string& name, int32_t layer = 0, int32_t size_of_layer = 0) const {
    const auto found = std::ranges::find(tensors, name, &std::pair<std::string, Row>::first);
    REQUIRE(found != tensors.end());
    return found->second.data() + layer * size_of_layer;
  }

  std::string bytes() const {
    std::string file;
    for (const int32_t n : {kDim, kHidden, kLayers, kHeads, kKvHeads, kVocab, kPositions})
      put(file, n);
    for (const auto& [name, values] : tensors)
      for (const float value : values) put(file, value);
    return file;
  }
};

std::string tokenizer_bytes() {
  std::string file;
  put(file, int32_t{10});
  const auto piece = [&](const std::string& text, float score) {
    put(file, score);
    put(file, static_cast<int32_t>(text.size()));
    file += text;
  };
  for (const char* special : {"<unk>", "\n<s>\n", "\n</s>\n"}) piece(special, 0);
  for (int byte = 0; byte < 256; ++byte) {
    char text[8];
    std::snprintf(text, sizeof text, "<0x%02X>", byte);
    piece(text, 0);
  }
  for (size_t i = 0; i < words().size(); ++i) piece(words()[i], score_of(i));
  return file;
}

Row norm(const Row& x, const float* weight) {
  double squares = 0;
  for (const float v : x) squares += static_cast<double>(v) * v;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
  Row y(x.size());
  for (size_t i = 0; i < x.size(); ++i) y[i] = static_cast<float>(weight[i] * scale * x[i]);
  return y;
}

Row product(const float* weight, const Row& x, int32_t rows) {
  Row y(static_cast<size_t>(rows));
  for (size_t r = 0; r < y.size(); ++r) {
    double sum = 0;
    for (size_t i = 0; i < x.size(); ++i)
      sum += static_cast<double>(weight[r * x.size() + i]) * x[i];
    y[r] = static_cast<float>(sum);
  }
  return y;
}

// Turns neighbouring pairs, as llama2.c does.
void rotate(Row& x, size_t position) {
  for (size_t i = 0; i < x.size(); i += 2) {
    const double frequency = std::pow(1e4, -static_cast<double>(i % kHeadDim) / kHeadDim);
    const double angle = static_cast<double>(position) * frequency;
    const double a = x[i], b = x[i + 1];
    x[i] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
    x[i + 1] = static_cast<float>(a * std::sin(angle) + b * std::cos(angle));
  }
}

// What one token sees of the tokens up to itself.
Row attend(const Row& q, const std::vector<Row>& keys, const std::vector<Row>& values) {
  Row y(kDim, 0.0f);
  for (size_t head = 0; head < kHeads; ++head) {
    const size_t own = head * kHeadDim, shared = head / (kHeads / kKvHeads) * kHeadDim;
    std::vector<double> weights;
    double total = 0;
    for (const Row& k : keys) {
      double dot = 0;
      for (size_t i = 0; i < kHeadDim; ++i) dot += static_cast<double>(q[own + i]) * k[shared + i];
      weights.push_back(std::exp(dot / std::sqrt(double{kHeadDim})));
      total += weights.back();
    }
    for (size_t t = 0; t < keys.size(); ++t) {
      for (size_t i = 0; i < kHeadDim; ++i)
        y[own + i] += static_cast<float>(weights[t] / total * values[t][shared + i]);
    }
  }
  return y;
}

void add_to(Row& x, const Row& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

void feed_forward(const Checkpoint& c, int32_t layer, Row& x) {
  const Row h = norm(x, c.at("rms_ffn", layer, kDim));
  Row gate = product(c.at("w1", layer, kHidden * kDim), h, kHidden);
  const Row up = product(c.at("w3", layer, kHidden * kDim), h, kHidden);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
  add_to(x, product(c.at("w2", layer, kDim * kHidden), gate, kDim));
}

std::vector<Row> reference_logits(const Checkpoint& c, std::span<const int32_t> tokens) {
  std::array<std::vector<Row>, kLayers> keys, values;
  std::vector<Row> logits;
  for (size_t t = 0; t < tokens.size(); ++t) {
    const float* embedding = c.at("emb") + tokens[t] * kDim;
    Row x(embedding, embedding + kDim);
    for (int32_t l = 0; l < kLayers; ++l) {
      const auto at = static_cast<size_t>(l);
      const Row h = norm(x, c.at("rms_att", l, kDim));
      Row q = product(c.at("wq", l, kDim * kDim), h, kDim);
      Row k = product(c.at("wk", l, kKvDim * kDim), h, kKvDim);
      rotate(q, t);
      rotate(k, t);
      keys[at].push_back(k);
      values[at].push_back(product(c.at("wv", l, kKvDim * kDim), h, kKvDim));
      add_to(x, product(c.at("wo", l, kDim * kDim), attend(q, keys[at], values[at]), kDim));
      feed_forward(c, l, x);
    }
    logits.push_back(product(c.at("emb"), norm(x, c.at("rms_final")), kVocab));
  }
  return logits;
}

// llama2.c's encode(): a space in front, one token per character or its bytes, then the best
// neighbours merged again and again.
std::vector<int32_t> reference_tokens(const std::string& text) {
  std::map<std::string, int32_t> ids;
  for (size_t i = 0; i < words().size(); ++i) ids[words()[i]] = static_cast<int32_t>(259 + i);
  std::vector<int32_t> tokens;
  const std::string all = " " + text;
  for (size_t i = 0; i < all.size();) {
    size_t n = 1;
    while (i + n < all.size() && (all[i + n] & 0xC0) == 0x80) ++n;
    if (const auto found = ids.find(all.substr(i, n)); found != ids.end()) {
      tokens.push_back(found->second);
    } else {
      for (size_t b = i; b < i + n; ++b) tokens.push_back(static_cast<uint8_t>(all[b]) + 3);
    }
    i += n;
  }
  const auto text_of = [](int32_t id) {
    return id < 259 ? "<byte>" : words()[static_cast<size_t>(id - 259)];
  };
  for (;;) {
    float best = -std::numeric_limits<float>::infinity();
    size_t place = 0;
    int32_t merged = -1;
    for (size_t i = 0; i + 1 < tokens.size(); ++i) {
      const auto found = ids.find(text_of(tokens[i]) + text_of(tokens[i + 1]));
      if (found == ids.end() || score_of(static_cast<size_t>(found->second - 259)) <= best)
        continue;
      best = score_of(static_cast<size_t>(found->second - 259));
      place = i;
      merged = found->second;
    }
    if (merged < 0) return tokens;
    tokens[place] = merged;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

OwnedTensor integers(const std::vector<int32_t>& values) {
  OwnedTensor tensor({DType::i32, {static_cast<int64_t>(values.size())}});
  std::ranges::copy(values, tensor.as<int32_t>().begin());
  return tensor;
}

std::vector<Row> library_logits(const fs::path& folder, const std::vector<int32_t>& ids) {
  const LlamaConfig config = read_llama_config(folder / "config.json");
  ParameterStore store;
  const Llama model(config, store, Training::frozen);
  store.allocate();
  load_weights(store, config, folder);
  std::vector<int32_t> places(ids.size());
  for (size_t i = 0; i < places.size(); ++i) places[i] = static_cast<int32_t>(i);
  const OwnedTensor tokens = integers(ids), positions = integers(places),
                    starts = integers(std::vector<int32_t>(ids.size(), 0));
  Graph graph;
  Context context(graph);
  const Var h = model.hidden(context, graph.bind(tokens.view(), "tokens"),
                             graph.bind(positions.view(), "positions"),
                             model.packed_attention(graph.bind(starts.view(), "segment_start")));
  const Var logits = matmul(h, model.output_weight(context), {.tb = Transpose::yes});
  const auto backend = make_cpu_backend(MatmulProvider::eigen);
  Workspace workspace;
  Plan plan(graph, std::array{logits}, *backend, workspace);
  plan.run();
  const auto all = plan[logits].as<float>();
  std::vector<Row> rows;
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto row = all.subspan(t * static_cast<size_t>(kVocab), static_cast<size_t>(kVocab));
    rows.emplace_back(row.begin(), row.end());
  }
  return rows;
}

struct Source : TemporaryFolder {
  Source() {
    fs::create_directory(path() / "checkpoint");
    file("checkpoint/model.bin", Checkpoint().bytes());
    file("checkpoint/tok.bin", tokenizer_bytes());
  }
  Finished convert() const {
    return run(path(), {"python3", MORA_SOURCE_DIR "/scripts/convert_llama2c.py", "checkpoint",
                        "converted"});
  }
};

bool python_is_missing() {
  const TemporaryFolder folder;
  if (run(folder.path(), {"python3", "--version"}).code == 0) return false;
  MESSAGE("skipped: there is no python3 here");
  return true;
}

}  // namespace

TEST_CASE("a converted model computes what llama2.c computes") {
  if (python_is_missing()) return;
  const Source source;
  const Finished converted = source.convert();
  REQUIRE_MESSAGE(converted.code == 0, converted.err);
  std::vector<int32_t> ids = {1};
  for (int32_t i = 0; i < 20; ++i) ids.push_back((i * 37 + 5) % kVocab);
  const auto expected = reference_logits(Checkpoint(), ids);
  const auto found = library_logits(source / "converted", ids);
  double largest = 0, difference = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    for (size_t i = 0; i < expected[t].size(); ++i) {
      largest = std::max(largest, std::abs(double{expected[t][i]}));
      difference = worse(difference, std::abs(double{expected[t][i]} - found[t][i]));
    }
  }
  CHECK(largest > 0.5);
  CHECK(difference < 1e-4 * largest);
}

TEST_CASE("a converted tokenizer cuts text as llama2.c does") {
  if (python_is_missing()) return;
  const Source source;
  REQUIRE(source.convert().code == 0);
  const auto tokenizer = load_tokenizer(source / "converted");
  CHECK(tokenizer->vocab_size() == kVocab);
  CHECK(tokenizer->bos() == 1);
  CHECK(tokenizer->eos() == 2);
  for (const std::string text :
       {"a", "abc", "cab abc", "  ab  ca ", "abcabcabbca", "é e\n\tb", "x→ab", "bcabca cabcab"}) {
    CAPTURE(text);
    const auto tokens = tokenizer->encode(text);
    CHECK(tokens == reference_tokens(text));
    CHECK(tokenizer->decode(tokens) == text);
  }
}

TEST_CASE("a bad checkpoint is refused, and nothing is written") {
  if (python_is_missing()) return;
  const std::string model = Checkpoint().bytes(), pieces = tokenizer_bytes();
  const auto refused = [](const char* name, const std::string& bytes, const std::string& part) {
    const Source source;
    source.file(name, bytes);
    const Finished finished = source.convert();
    INFO(finished.err);
    CHECK(finished.code == 3);
    CHECK(finished.err.find(part) != std::string::npos);
    CHECK(std::ranges::count(finished.err, '\n') == 1);
    CHECK_FALSE(fs::exists(source / "converted"));
    CHECK(std::distance(fs::directory_iterator(source.path()), {}) == 1);
  };
  refused("checkpoint/model.bin", model.substr(0, model.size() - 4), "its header asks for");
  refused("checkpoint/model.bin", model + "more", "its header asks for");
  refused("checkpoint/model.bin", model.substr(0, 20), "28 of header");
  refused("checkpoint/model.bin", std::string(model.size(), '\0'), "not a llama2.c checkpoint");
  refused("checkpoint/tok.bin", pieces.substr(0, pieces.size() - 1), "beyond the end");
  refused("checkpoint/tok.bin", pieces.substr(0, pieces.size() - 8), "ends within piece");
  refused("checkpoint/tok.bin", pieces.substr(0, 4), "0 pieces");
  refused("checkpoint/second.bin", model, "2 files");
}

}  // namespace mora::testing

TEST_SUITE_END();
