// ExampleSource: what a trainer needs to know of a data set. Examples are views, so that reading
// one allocates nothing.
#pragma once

#include <cstdint>

#include "mora/data/batch.hpp"

namespace mora {

class ExampleSource {
 public:
  virtual ~ExampleSource() = default;
  virtual int64_t size() const = 0;
  virtual ExampleView example(int64_t index) const = 0;  // valid as long as the source
};

}  // namespace mora
