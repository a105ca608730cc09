# Sourced by the other scripts: installs the Debian packages that are missing.
#
#   ensure_packages PACKAGE...
#
# Installs only what is not there; needs root or sudo for that, and without either prints the one line that is missing.

base_packages="g++ cmake ninja-build libeigen3-dev libdnnl-dev libcli11-dev nlohmann-json3-dev libsentencepiece-dev \
libssl-dev zlib1g-dev libicu-dev libpcre2-dev"
sweep_packages="python3 python3-matplotlib"
test_packages="doctest-dev $sweep_packages"

ensure_packages() {
  local missing=() package
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  local install=(apt-get install -y --no-install-recommends "${missing[@]}")
  local sudo=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null || ! sudo -v 2>/dev/null; then
      echo "Packages are missing, and installing them needs root. Please run:" >&2
      echo "  apt-get update && ${install[*]}" >&2
      exit 1
    fi
    sudo=(sudo)
  fi
  echo "Installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" "${install[@]}" >/dev/null
}
