// The table of benchmarks. A new one is one source file and one line here.
#include "benchmarks/benchmarks.hpp"
#include "mora/core/error.hpp"

namespace mora {

namespace {

struct Row {
  std::string_view name;
  benchmarks::MakeBenchmark make;
};

constexpr Row kBenchmarks[] = {
    {"mmlu", benchmarks::make_mmlu},
    {"pubmedqa", benchmarks::make_pubmedqa},
    {"medqa", benchmarks::make_medqa},
    {"rct", benchmarks::make_rct},
    {"gsm8k", benchmarks::make_gsm8k},
    {"math", benchmarks::make_math},
    {"convfinqa", benchmarks::make_convfinqa},
    {"fiqa", benchmarks::make_fiqa},
    {"fpb", benchmarks::make_fpb},
    {"headline", benchmarks::make_headline},
    {"ner", benchmarks::make_ner},
};

}  // namespace

std::unique_ptr<Benchmark> make_benchmark(const BenchmarkConfig& config) {
  for (const Row& row : kBenchmarks) {
    if (row.name == config.name) return row.make(config);
  }
  fail(ErrorKind::usage, "benchmark: \"", config.name, "\" is not known");
}

}  // namespace mora
