// A PEFT LoRA as a LoRA in GGUF: `mora-convert adapter --to gguf-lora`.
#pragma once

#include <filesystem>

namespace mora::apps {

// Writes the LoRA in the folder `adapter`, trained on the model in the folder `base` (of which only
// config.json is read), to the file `out`. Returns the exit code 0. Error(data) names what a LoRA
// in GGUF cannot express.
int adapter_to_gguf_lora(const std::filesystem::path& adapter, const std::filesystem::path& base,
                         const std::filesystem::path& out);

}  // namespace mora::apps
