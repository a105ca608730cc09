// Memory of this process that is in the machine's memory, now and at its peak, as Linux counts it
// (VmRSS, VmHWM): mapped files are in it, the cache of files is not.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

namespace mora::testing {

inline int64_t bytes_in_status(const std::string& key) {
  std::ifstream in("/proc/self/status");
  for (std::string word; in >> word;) {
    int64_t kibibytes = 0;
    if (word == key && in >> kibibytes) return kibibytes * 1024;
  }
  return -1;
}

inline int64_t resident_bytes() {
  return bytes_in_status("VmRSS:");
}
inline int64_t peak_resident_bytes() {
  return bytes_in_status("VmHWM:");
}

// The peak begins anew. False where the system does not let us.
inline bool reset_peak() {
  std::ofstream out("/proc/self/clear_refs");
  return static_cast<bool>(out << "5" << std::flush);
}

}  // namespace mora::testing
