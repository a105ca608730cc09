#!/usr/bin/env bash
# The paper's tables and figures.
#
#   scripts/reproduce.sh --small [OUT]   runs all of them at this machine's size (configs/sweeps), each sweep's report
#                                        with tables and plots in OUT/NAME/report.md (OUT: runs/reproduce)
#   scripts/reproduce.sh --paper         prints the commands of the runs at the paper's size (docs/paper.md)
#
# A sweep that was interrupted goes on where it stopped. Needs the programs in build/ and, for plots, python3-matplotlib.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  --paper)
    for config in configs/paper/*/*.json; do
      [ "$(basename "$config")" = common.json ] ||
        echo "build/mora-train --config $config --resume && build/mora-eval --config $config"
    done
    ;;
  --small)
    out=${2:-runs/reproduce}
    failed=0
    for sweep in uuid pretrain math instruction continual; do
      printf '\n== %s\n' "$sweep"
      # Models this small use one thread better than several.
      scripts/sweep run "configs/sweeps/$sweep.json" --output "$out/$sweep" --jobs "$(nproc)" || failed=1
    done
    exit $failed
    ;;
  *)
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
