// Passes over new tokens of sequences whose earlier tokens are in key-value caches: what generation
// and likelihoods are made of.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <span>
#include <vector>

#include "mora/backend/backend.hpp"
#include "mora/models/llama.hpp"
#include "mora/plan/plan.hpp"

namespace mora {

// Keys and values of every layer: `slots` sequences of up to `capacity` tokens.
class Caches {
 public:
  // Error(data) when the capacity exceeds the positions that the model's RoPE table covers.
  Caches(const Llama& model, const ParameterStore& store, int64_t slots, int64_t capacity);

  OwnedTensor& keys(int64_t layer) { return tensors_[static_cast<size_t>(2 * layer)]; }
  OwnedTensor& values(int64_t layer) { return tensors_[static_cast<size_t>(2 * layer + 1)]; }
  int64_t slots() const { return slots_; }
  int64_t capacity() const { return capacity_; }

  // Positions [0, count) of one slot become those of another.
  void copy(int64_t from_slot, int64_t to_slot, int64_t count);

 private:
  int64_t slots_, capacity_;
  std::deque<OwnedTensor> tensors_;
};

// A plan that reads `tokens` new tokens of any slots and gives the logits of `rows` chosen ones.
class CachedPass {
 public:
  CachedPass(const Llama& model, Caches& caches, int64_t tokens, int64_t rows,
             const Backend& backend, Workspace& workspace);

  int64_t tokens() const { return tokens_.view().elements(); }
  int64_t rows() const { return chosen_.view().elements(); }

  // Token number `row` of the pass. A negative slot: an unused place.
  void set(int64_t row, int32_t token, int64_t position, int64_t slot);
  void clear_from(int64_t row);  // unused from there on, and row 0 chosen everywhere
  void choose(int64_t place, int64_t row) {
    chosen_.as<int32_t>()[static_cast<size_t>(place)] = static_cast<int32_t>(row);
  }
  void run() { plan_.run(); }
  Tensor logits() const { return plan_[logits_]; }  // [rows, V]

 private:
  OwnedTensor tokens_, positions_, slots_, chosen_;
  Graph graph_;
  Var logits_;
  Plan plan_;

  static Var write(CachedPass& pass, const Llama& model, Caches& caches);
};

}  // namespace mora
