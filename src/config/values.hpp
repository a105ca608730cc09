// Values of fields to and from JSON: shared by the visitors of this module.
#pragma once

#include <filesystem>
#include <string>

#include "io/json.hpp"
#include "mora/config/field.hpp"

namespace mora {

// Stores `json` into the field's value. Returns the problem, empty if there is none; the value is
// unspecified after a problem. Relative paths are resolved against `base`.
std::string read_value(const Field& field, const Json& json, const std::filesystem::path& base);

// The field's present value; paths as they are.
Json value_of(const Field& field);

std::string type_of(const Field& field);   // "integer", "list of paths", ...
std::string range_of(const Field& field);  // "[1, 65536]", "\"a\", \"b\"", "> 0"; empty: no limit

// `"a", "b" or "c"`.
std::string alternatives(std::span<const std::string> values);

}  // namespace mora
