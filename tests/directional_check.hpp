// <u, J v> by central differences, extrapolated once (Richardson), against <J^T u, v> from grad(),
// in f64 and in random directions u, v.
#pragma once

#include <vector>

#include "op_harness.hpp"

namespace mora::testing {

class DirectionalCheck {
 public:
  explicit DirectionalCheck(const OpCase& c);

  // The relative error of the gradient of input wrt[w] of the case. Throws where there is no
  // gradient.
  double error(size_t w, const Backend& backend);

 private:
  Array direction(size_t stream, int64_t n) const;
  double difference(Plan& value, size_t w, const Array& v, double h) const;

  const OpCase& case_;
  Graph graph_;
  Inputs inputs_;
  std::vector<OwnedTensor> seed_memory_;
  std::vector<Var> outputs_, seeds_, wrt_;
};

}  // namespace mora::testing
