# Sourced by the scripts beside it: finds or installs what they need. Nothing here changes which
# kernel the machine boots: the lab's kernel is unpacked below target/, not installed.
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=$(cd "$top" && realpath -m "${CARGO_TARGET_DIR:-target}")
PATH=$PATH:$HOME/.cargo/bin

say() { echo "${0##*/}: $*" >&2; }

# apt WORDS…: apt-get as root, quiet unless it fails.
apt() {
    local sudo=() log
    command -v apt-get >/dev/null || { say "no apt-get here; this needs the equivalent of: apt-get $*"; exit 1; }
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "as root, run: apt-get $*"; exit 1; }
        sudo=(sudo)
    fi
    log=$(mktemp)
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 </dev/null \
        || { cat "$log" >&2; rm -f "$log"; say "failed: apt-get $*"; exit 1; }
    rm -f "$log"
}
apt_update() { [ -n "${updated:-}" ] || apt update; updated=1; }

# packages WHAT:PACKAGE…: installs each Debian package whose WHAT, a command or a file, is missing.
packages() {
    local pair missing=()
    for pair; do
        case $pair in /*) [ -e "${pair%%:*}" ] ;; *) command -v "${pair%%:*}" >/dev/null ;; esac \
            || missing+=("${pair#*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    apt_update
    apt install -y --no-install-recommends "${missing[@]}"
}

# rust: the pinned toolchain with the kernel's target, and a linker for the host.
rust() {
    local channel lib
    command -v cargo >/dev/null || {
        say "Rust is missing. Install it, then try again:" \
            "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
        exit 1
    }
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$top/rust-toolchain.toml")
    lib=$(cd "$top" && rustc --print target-libdir --target x86_64-unknown-none 2>/dev/null) || lib=
    if [ ! -d "$lib" ] || ! (cd "$top" && cargo --version) >/dev/null 2>&1; then
        command -v rustup >/dev/null || {
            say "needs Rust $channel with the target x86_64-unknown-none; get it by https://rustup.rs"
            exit 1
        }
        say "installing Rust $channel with the target x86_64-unknown-none"
        rustup toolchain install "$channel" --profile minimal -c clippy -c rustfmt \
            -t x86_64-unknown-none --no-self-update </dev/null >&2
    fi
    packages cc:gcc /usr/include/stdio.h:libc6-dev
}

# lab_kernel: sets `kernel` and `modules` to the newest Linux here that has kvm_amd and 9p.
lab_kernel() {
    find_lab_kernel && return
    say "unpacking Debian's kernel into $target/lab (it is not installed)"
    apt_update
    local name
    name=$(apt-cache depends linux-image-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
    mkdir -p "$target/lab"
    (cd "$target/lab" && apt-get download -q -o APT::Sandbox::User=root "${name:?no linux-image-amd64 in the package lists}" >/dev/null \
        && dpkg-deb -x linux-image-*.deb . && rm linux-image-*.deb)
    find_lab_kernel || { say "no kernel with kvm_amd and 9p in /boot or $target/lab"; exit 1; }
}
find_lab_kernel() {
    local root image version
    for root in "" "$target/lab"; do
        for image in $(ls "$root"/boot/vmlinuz-* 2>/dev/null | sort -Vr); do
            version=${image##*/vmlinuz-}
            modules=$root/lib/modules/$version/kernel
            [ -r "$image" ] && ls "$modules"/arch/x86/kvm/kvm-amd.ko* "$modules"/fs/9p/9p.ko* >/dev/null 2>&1 \
                && kernel=$image && return 0
        done
    done
    return 1
}
