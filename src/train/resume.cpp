#include "mora/train/resume.hpp"

#include "mora/io/file.hpp"

namespace mora {

namespace {

// Under another name, so that the run can write its checkpoint of that step again.
void set_aside(const std::filesystem::path& checkpoint, const Warn& warn) {
  const auto to = checkpoint.parent_path() /
                  str("damaged-", checkpoint.filename().string(), "-", random_suffix());
  std::error_code error;
  std::filesystem::rename(checkpoint, to, error);
  if (error) fail(ErrorKind::io, "cannot rename ", checkpoint.string(), ": ", error.message());
  warn(str("kept the damaged checkpoint as ", to.string()));
}

}  // namespace

std::optional<TrainingState> load_newest_checkpoint(const std::filesystem::path& checkpoints,
                                                    const RunIdentity& identity,
                                                    const TrainedModel& trained,
                                                    ParameterStore& store, const Warn& warn) {
  const auto found = list_checkpoints(checkpoints);
  std::vector<std::filesystem::path> damaged;
  for (size_t i = found.size(); i-- > 0;) {
    const std::filesystem::path& checkpoint = found[i];
    try {
      const TrainingState state = load_checkpoint(checkpoint, identity, trained, store);
      for (const auto& path : damaged) set_aside(path, warn);
      return state;
    } catch (const Error& e) {
      if (e.kind() != ErrorKind::data) throw;
      warn(e.what());
      damaged.push_back(checkpoint);
    }
  }
  if (found.empty()) return {};
  fail(ErrorKind::data, checkpoints.string(), ": none of the ", found.size(),
       " checkpoints is whole; nothing was loaded");
}

}  // namespace mora
