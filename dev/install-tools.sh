#!/usr/bin/env bash
# What the tests and checks use beside Python, from Debian's packages: shellcheck and gcloud.
# Says what it could not get and goes on; the tests know which of them they cannot do without.
set -uo pipefail

for need in shellcheck:shellcheck gcloud:google-cloud-cli curl:curl; do
  command=${need%%:*} package=${need##*:}
  if command -v "$command" >/dev/null; then continue; fi
  if ! command -v apt-get >/dev/null; then
    echo "$command is missing, and there is no apt-get to install it with"
    continue
  fi
  apt-get update -qq >/dev/null 2>&1 || true
  apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 ||
    echo "$command is missing, and $package could not be installed"
done
