// The constructors of the benchmarks, for the table.
#pragma once

#include "mora/benchmarks/benchmark.hpp"

namespace mora::benchmarks {

using MakeBenchmark = std::unique_ptr<Benchmark> (*)(const BenchmarkConfig&);

std::unique_ptr<Benchmark> make_mmlu(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_pubmedqa(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_medqa(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_rct(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_gsm8k(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_math(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_convfinqa(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_fiqa(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_fpb(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_headline(const BenchmarkConfig& config);
std::unique_ptr<Benchmark> make_ner(const BenchmarkConfig& config);

}  // namespace mora::benchmarks
