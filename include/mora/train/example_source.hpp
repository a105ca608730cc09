// ExampleSource: what a trainer needs to know of a data set. Examples are views, so that reading
// one allocates nothing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "mora/data/batch.hpp"

namespace mora {

class ExampleSource {
 public:
  virtual ~ExampleSource() = default;
  virtual int64_t size() const = 0;
  virtual ExampleView example(int64_t index) const = 0;  // valid as long as the source

  // A hash that tells other examples apart; by default of all of them.
  virtual std::string sha256() const;

  // Longest that an example may be when whole examples are packed by tokens: a micro-batch then has
  // per_device_train_batch_size times as many token slots and takes what fits. 0: it takes that
  // many examples.
  virtual int64_t packed_length() const { return 0; }
};

// Error(data) where one of the first `count` examples (0: all) has more tokens than the model has
// positions. `kind`: "training", "held-out".
void check_lengths(const ExampleSource& data, int64_t count, int64_t positions,
                   std::string_view kind);

}  // namespace mora
