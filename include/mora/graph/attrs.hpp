// Attrs: the constants of one operation (a transposition, an epsilon, a number of heads), as a
// small value.
//
// Each op has its own struct (ops/attrs.hpp); the graph only carries it. Asking for another struct
// than the one that was stored is an internal error, never undefined behaviour.
#pragma once

#include <array>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "mora/core/error.hpp"

namespace mora {

class Attrs {
 public:
  Attrs() = default;

  template <class T>
  requires(!std::is_same_v<std::remove_cvref_t<T>, Attrs>) Attrs(const T& value)
      : tag_(&kTag<T>) {  // NOLINT(google-explicit-constructor): a value of any op's struct
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kBytes);
    std::memcpy(bytes_.data(), &value, sizeof(T));
  }

  template <class T>
  T as() const {
    ensure(tag_ == &kTag<T>, "an op was given another op's attributes");
    T value;
    std::memcpy(&value, bytes_.data(), sizeof(T));
    return value;
  }

 private:
  static constexpr size_t kBytes = 48;
  template <class T>
  static constexpr char kTag = 0;

  alignas(8) std::array<std::byte, kBytes> bytes_{};
  const char* tag_ = nullptr;
};

}  // namespace mora
