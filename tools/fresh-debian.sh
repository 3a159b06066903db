#!/usr/bin/env bash
# A fresh Debian 12 with nothing but a clone: does ./dev start serve, does ./dev test pass, and how long does each take?
#
#   tools/fresh-debian.sh [FOLDER]       FOLDER (default: a new one under /tmp) holds the root file system; run as root
#
# It clones the committed state of this tree. The machine's own configuration of apt and npm is copied in when it runs, so that
# the fresh system reaches the same package sources; it is not part of the tree. KEEP=1 keeps the folder.
set -euo pipefail
# A mount namespace of its own: what is mounted below goes with this process, and never reaches the machine's own mounts.
[ -n "${WEIR_FRESH:-}" ] || WEIR_FRESH=1 exec unshare --mount --propagation private "$0" "$@"
tree=$(cd "$(dirname "$0")/.." && pwd)
root=${1:-$(mktemp -d /tmp/fresh-debian-XXXXXX)}

cleanup() {
    for m in dev sys proc; do ! mountpoint -q "$root/$m" || umount -R -l "$root/$m"; done
    [ "${KEEP:-}" = 1 ] || rm -rf --one-file-system "$root"
}
trap cleanup EXIT

# begin; report WHAT: the time that passed in between, and the processor time of all that ended in between.
# Fields 14 to 17 of proc(5) stat: this shell's own ticks and those of the children that it has waited for. $$ is this shell in a
# subshell too, whose own children are none of these.
processor_seconds() { awk -v hertz="$(getconf CLK_TCK)" '{ print int(($14 + $15 + $16 + $17) / hertz) }' "/proc/$$/stat"; }
begin() { began=$SECONDS; cpu_began=$(processor_seconds); }
minutes() { printf '%d min %02d s' $(($1 / 60)) $(($1 % 60)); }
report() { echo "$1: $(minutes $((SECONDS - began))), processor time $(minutes $(($(processor_seconds) - cpu_began)))"; }

if [ ! -x "$root/bin/bash" ]; then
    command -v debootstrap >/dev/null || apt-get install -y -q debootstrap
    mirror=$(sed -nE 's/^(URIs:|deb) +(\[[^]]*\] +)?(http[^ ]+).*/\3/p' /etc/apt/sources.list /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1 || true)
    debootstrap --variant=minbase --include=ca-certificates bookworm "$root" "$mirror" >"$root.log" 2>&1 || { tail "$root.log"; exit 1; }
fi
for m in proc sys dev; do mountpoint -q "$root/$m" || mount --rbind "/$m" "$root/$m"; done

# How this machine reaches its package sources.
for path in /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d /etc/apt/auth.conf.d /etc/apt/trusted.gpg.d /etc/apt/preferences.d \
    /etc/resolv.conf /etc/hosts /etc/npmrc "$HOME/.npmrc" /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates /usr/share/keyrings; do
    [ -e "$path" ] || continue
    mkdir -p "$root$(dirname "$path")"
    cp -aL --remove-destination "$path" "$root$(dirname "$path")/"
done
rm -rf "$root/weir"
git clone -q "$tree" "$root/weir"

inside() { chroot "$root" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "${proxies[@]}" "$@"; }
proxies=()
while IFS= read -r line; do proxies+=("$line"); done < <(env | grep -iE '^(https?|no|all)_proxy=|^NODE_EXTRA_CA_CERTS=|^SSL_CERT_FILE=' || true)

echo "packages before: $(inside dpkg-query -f '.\n' -W | wc -l)"
begin
inside bash -c 'cd /weir && exec ./dev start --data /tmp/weir-data --kafka 127.0.0.1:0 --admin 127.0.0.1:0' >"$root/start.out" 2>"$root/start.err" &
starter=$!
until grep -q '^ready ' "$root/start.out"; do
    kill -0 "$starter" 2>/dev/null || { echo "./dev start ended:"; tail -30 "$root/start.err"; exit 1; }
    sleep 1
done
served=$((SECONDS - began))
cat "$root/start.out"

# What the README's tour begins with: a real file goes in and comes out the same.
brokers=$(sed -nE 's/^ready kafka=([^ ]+) .*/\1/p' "$root/start.out")
inside apt-get install -y -q --no-install-recommends kcat >/dev/null 2>&1
inside bash -c "kcat -P -b $brokers -t packages -z zstd < /var/log/dpkg.log && kcat -C -b $brokers -t packages -e -q | cmp - /var/log/dpkg.log" &&
    echo "kcat: $(wc -l <"$root/var/log/dpkg.log") records there and back"

# The node itself, not the shell around it: its end is what wait tells, and its processor time counts.
for pid in $(pgrep -P "$starter"); do kill -TERM "$pid"; done
wait "$starter" && echo "it stopped in order" || echo "it stopped with $?"
echo "./dev start, until it serves: $(minutes "$served"), processor time $(minutes $(($(processor_seconds) - cpu_began)))"
echo "packages after: $(inside dpkg-query -f '.\n' -W | wc -l)"
ls -l "$root/weir/build/release/weir" | awk '{printf "the binary: %.1f MiB\n", $5 / 1048576}'

begin
status=0
inside bash -c 'cd /weir && exec ./dev test' >"$root/test.out" 2>&1 || status=$?
report "./dev test"
grep -E '^(FAILED|skipped)' "$root/test.out" || true
tail -1 "$root/test.out"
[ "$status" = 0 ] || cp "$root/test.out" "${TMPDIR:-/tmp}/fresh-debian-test.out"
exit "$status"
