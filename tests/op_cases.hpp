// The one table of cases over all operations. Value tests, gradient checks, thread and planner
// comparisons, shape errors and the completeness test all walk it, so that an operation is either
// covered everywhere or reported.
//
// A case fixes shapes and numbers; the harness chooses the working type (f32 or f64) and the
// backend.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "mora/core/random.hpp"
#include "mora/ops/ops.hpp"
#include "op_reference.hpp"

namespace mora::testing {

// How an input is stored: working is f32 or f64 as the harness asks, the others are fixed.
enum class Storage { working, bf16, f16, f64, i32 };

inline std::string narrow_label(Storage storage) {
  return storage == Storage::bf16 ? ", bf16" : storage == Storage::f16 ? ", f16" : "";
}
// The working types a case makes sense in: an operand stored in bf16 goes with f32 only.
enum class WorkingTypes { f32_and_f64, f32 };

// The numbers of an input with n elements, as doubles; the harness rounds them to the storage type.
using Fill = std::function<Array(const Random&, int64_t n)>;

struct CaseInput {
  Shape shape;
  Fill fill;
  Storage storage = Storage::working;
};

// Calls the op's public function and returns its outputs; for an op that updates memory, the
// updated leaves.
using Build = std::function<std::vector<Var>(std::span<const Var> in)>;
// The same outputs, from the inputs' values as stored.
using Reference = std::function<Arrays(const Arrays& in)>;

struct OpCase {
  OpId op;
  std::string label;
  std::vector<CaseInput> in;
  Build build;
  Reference reference;
  std::vector<int> wrt =
      {};  // inputs whose gradient is checked, through output 0 and the other `through` outputs
  std::vector<int> through = {0};
  std::vector<int> constants = {};  // inputs that the op's definition takes for constants
  double f32_bound = 4e-6;          // of the largest magnitude of the reference output
  double step =
      1e-3;  // of the central difference; 1 for casts, which are exact on the case's numbers
  WorkingTypes working = WorkingTypes::f32_and_f64;
};

const std::vector<OpCase>& op_cases();

// Its parts, one file each.
void add_model_cases(std::vector<OpCase>& out);      // op_cases_model.cpp: what a LLaMA consists of
void add_attention_cases(std::vector<OpCase>& out);  // op_cases_attention.cpp
void add_train_cases(
    std::vector<OpCase>& out);  // op_cases_train.cpp: loss, dropout, adapters, updates
void add_block_cases(std::vector<OpCase>& out);  // op_cases_blocks.cpp
void add_dora_cases(std::vector<OpCase>& out);   // op_cases_dora.cpp

// The outputs of an op that has no public function of its own.
std::vector<Var> emit(OpId id, const Attrs& attrs, std::span<const Var> in);

// A call that must be refused with a message that names the op and what it was given.
struct WrongCall {
  OpId op;
  std::string label;
  std::vector<CaseInput> in;
  Build build;
};

const std::vector<WrongCall>& wrong_calls();

// Operations that have no derivative on purpose.
const std::vector<OpId>& not_differentiable();

// How a case is called in messages: "matmul: ta, K = 5000".
std::string name_of(const OpCase& c);
std::string name_of(const WrongCall& c);

// Fills.
Fill normal(double scale = 1.0);
Fill uniform(double low, double high);
Fill eighths();                   // multiples of 1/8 in [-4, 4): exact in every floating-point type
Fill below(int64_t bound);        // whole numbers in [0, bound)
Fill rotation(int64_t features);  // rows (cos, sin) of `features` numbers
Fill values(Array numbers);       // exactly these
// segment_start for segments of these lengths, in order.
Fill segments(std::vector<int64_t> lengths);

}  // namespace mora::testing
