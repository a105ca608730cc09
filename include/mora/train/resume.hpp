// Going on with a run that was stopped or killed.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "mora/train/checkpoint.hpp"

namespace mora {

using Warn = std::function<void(const std::string&)>;

// Loads the newest checkpoint that is whole; newer ones that are not get names that begin with
// "damaged-", and `warn` is told. No checkpoint at all: nothing. Error(data) when there are some,
// but none is whole: never a silent new start.
std::optional<TrainingState> load_newest_checkpoint(const std::filesystem::path& checkpoints,
                                                    const RunIdentity& identity,
                                                    const TrainedModel& trained,
                                                    ParameterStore& store, const Warn& warn);

}  // namespace mora
