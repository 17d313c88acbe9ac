#!/bin/sh
# What the tests of the page need: Debian's chromium, Playwright in .venv, axe-core in build/axe. Never fails: they are skipped then.
bin=$1
if ! command -v chromium >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing chromium"
        export DEBIAN_FRONTEND=noninteractive
        { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core; } >/dev/null 2>&1 ||
            echo "could not install chromium; the tests of the page are skipped"
    else
        echo "chromium is not installed, and not root: the tests of the page are skipped"
    fi
fi
"$bin/python" -c "import playwright" 2>/dev/null ||
    "$bin/pip" install -q --disable-pip-version-check -c constraints.txt playwright || echo "could not install playwright"
[ -e build/axe/axe.min.js ] || { mkdir -p build/axe && cd build/axe && npm pack -s axe-core@4.14.1 >/dev/null 2>&1 &&
    tar -xzf axe-core-4.14.1.tgz --strip-components=1 package/axe.min.js; } || echo "no axe-core (npm): its checks are skipped"
exit 0
