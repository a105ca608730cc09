#include "mora/report/metrics.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "mora/core/error.hpp"

namespace mora {

MetricsLog::MetricsLog(const std::filesystem::path& file, int64_t keep)
    : file_(file),
      descriptor_(::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644)) {
  if (descriptor_ < 0)
    fail(ErrorKind::io, "cannot open ", file.string(), " for writing: ", std::strerror(errno));
  if (sync() > keep && ::ftruncate(descriptor_, keep) != 0)
    fail(ErrorKind::io, "cannot shorten ", file.string(), ": ", std::strerror(errno));
}

int64_t MetricsLog::sync() const {
  struct stat status {};
  if (::fsync(descriptor_) != 0 || ::fstat(descriptor_, &status) != 0)
    fail(ErrorKind::io, "cannot flush ", file_.string(), " to the disk: ", std::strerror(errno));
  return status.st_size;
}

MetricsLog::~MetricsLog() {
  ::close(descriptor_);
}

void MetricsLog::write(const Record& record) {
  const std::string line = to_json_line(record) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(descriptor_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) fail(ErrorKind::io, "cannot write ", file_.string(), ": ", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

ProgressLine::ProgressLine() : terminal_(::isatty(STDERR_FILENO) == 1) {}
ProgressLine::~ProgressLine() {
  end();
}

void ProgressLine::show(const std::string& text) {
  if (!terminal_) {
    std::fprintf(stderr, "%s\n", text.c_str());
    return;
  }
  const size_t padding = width_ > text.size() ? width_ - text.size() : 0;
  std::fprintf(stderr, "\r%s%*s", text.c_str(), static_cast<int>(padding), "");
  std::fflush(stderr);
  width_ = text.size();
}

void ProgressLine::end() {
  if (terminal_ && width_ > 0) std::fprintf(stderr, "\n");
  width_ = 0;
}

std::string duration(double seconds) {
  const auto s = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  char text[64];
  if (s >= 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", s / 3600, s / 60 % 60, s % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld", s / 60, s % 60);
  }
  return text;
}

}  // namespace mora
