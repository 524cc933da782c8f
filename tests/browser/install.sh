#!/usr/bin/env bash
# Installs Debian's Chromium, as root. Does nothing where there is one.
set -euo pipefail
if command -v chromium >/dev/null; then exit 0; fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends chromium fonts-dejavu-core >/dev/null
