// modules_to_save: whole modules of the model beside an adapter.
#pragma once

#include <string>

#include "mora/config/run_config.hpp"
#include "mora/nn/parameter.hpp"

namespace mora::adapters {

// Whether modules_to_save means the tensor that an adapter's file calls so: PEFT takes every module
// whose path ends in one of the texts ("norm" also means "input_layernorm"), with all that is in
// it.
bool is_saved(const AdapterConfig& config, const std::string& tensor);

// The embedding of a model whose output is tied to it: PEFT would replace one of the two.
bool is_tied_embedding(const ParameterStore& store, const std::string& parameter);

}  // namespace mora::adapters
