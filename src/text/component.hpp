// Reading the components (normaliser, pre-tokenizer, decoder ...) of tokenizer.json.
//
// Invariant: a component has a "type" that its reader knows and no key that its reader does not
// know, so that nothing in the file is ignored.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "io/json.hpp"
#include "text/regex.hpp"

namespace mora {

// The most steps of all Sequences of one component together.
inline constexpr size_t kMaxSteps = 64;

// The value of "type", of a component that is an object.
std::string component_type(const JsonView& json);

// Refuses keys other than "type" and these.
void check_keys(const JsonView& json, std::initializer_list<std::string_view> known);

[[noreturn]] void refuse_type(const JsonView& json, std::string_view what,
                              std::string_view supported);

// A string of exactly one character.
char32_t read_character(const JsonView& json);

// A key that may be absent or null.
bool boolean_or(const JsonView& json, std::string_view key, bool otherwise);

Regex read_regex(const JsonView& json);

// The components of a Sequence's list, or the component itself; nested Sequences in place.
std::vector<JsonView> flattened(const JsonView& json, std::string_view list_key);

}  // namespace mora
