// The constructors of the methods, for the table.
#pragma once

#include "mora/adapters/adapters.hpp"

namespace mora::adapters {

std::unique_ptr<Adapter> make_lora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out);
std::unique_ptr<Adapter> make_dora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out);
double lora_scale(const AdapterConfig& config);  // what PEFT multiplies B A by
int64_t lora_parameters(const AdapterConfig& config, int64_t in, int64_t out);

std::unique_ptr<Adapter> make_mora(const AdapterConfig& config, const Scope& scope, int64_t in,
                                   int64_t out);
int64_t mora_parameters(const AdapterConfig& config, int64_t in, int64_t out);

// The method's input dropout, or x itself outside training. The mask's stream comes from the
// layer's path.
Var input_dropout(Context& context, Var x, double p, const std::string& path);

}  // namespace mora::adapters
