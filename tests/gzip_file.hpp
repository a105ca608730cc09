// Files as gzip makes them.
#pragma once

#include <zlib.h>

#include <filesystem>
#include <string>

namespace mora::testing {

// Returns the path.
inline std::filesystem::path write_gzip(const std::filesystem::path& path,
                                        const std::string& bytes) {
  const gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  return path;
}

}  // namespace mora::testing
