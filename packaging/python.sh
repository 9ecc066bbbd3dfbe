#!/bin/sh
# python.sh SOURCES TARGET PREFIX: build Python and what it needs for one target, into a folder that may be moved.
#
# SOURCES has the unpacked Debian sources of python3.11, openssl, zlib and libffi; TARGET is as zig names it, such as
# x86_64-linux-musl or aarch64-linux-gnu.2.17 (with the oldest glibc to run on). $ZIG is the command for zig, which
# brings a compiler and a libc for each target. Python's own modules written in C are linked into its executable: fewer
# files to open, and a faster start.
set -eu
sources=$(cd "$1" && pwd) target=$2 prefix=$3
machine=${target%%-*}
libc=${target##*-} libc=${libc%%.*}
host=$machine-linux-$libc
mkdir -p "$prefix/work"
prefix=$(cd "$prefix" && pwd)
work=$prefix/work
libraries=$work/libraries
log=$work/log
jobs=$(nproc)
build_python=${PYTHON:-/usr/bin/python3.11}

# Compilers are commands with arguments, which not every build script takes: scripts of their own.
mkdir -p "$work/bin"
# script NAME COMMAND
script() {
    printf '#!/bin/sh\nexec %s "$@"\n' "$2" > "$work/bin/$1"
    chmod +x "$work/bin/$1"
}
script cc "$ZIG cc -target $target"
# libffi asks for a C++ compiler, and uses none: zig would build a library of it first.
script c++ "$ZIG cc -target $target"
script ar "$ZIG ar"
script ranlib "$ZIG ranlib"
PATH=$work/bin:$PATH
export PATH CC=cc CXX=c++ AR=ar RANLIB=ranlib
# zig's own checks for undefined behaviour trap; what is built here relies on some.
export CFLAGS="-O2 -fPIC -fno-sanitize=undefined -g0"
export CPPFLAGS="-I$libraries/include" LDFLAGS="-L$libraries/lib -s"

# step NAME COMMAND...
step() {
    name=$1
    shift
    echo "python.sh: $target: $name" >&2
    "$@" >> "$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
}

# copy NAME: a copy of a source, since building changes it.
copy() {
    rm -rf "$work/$1"
    cp -a "$sources/$1" "$work/$1"
    cd "$work/$1"
}

zlib() {
    copy zlib
    ./configure --static --prefix="$libraries"
    make -j"$jobs" install
}

libffi() {
    copy libffi
    ./configure --host="$host" --prefix="$libraries" --disable-shared --disable-docs --disable-multi-os-directory
    make -j"$jobs" install
}

openssl() {
    copy openssl
    ./Configure "linux-$machine" --prefix="$libraries" --libdir=lib --openssldir=/etc/ssl \
        no-shared no-tests no-legacy no-engine no-apps no-comp no-afalgeng no-async
    make -j"$jobs" build_libs
    make install_dev
}

python() {
    copy python3.11
    # Cross-compiling, configure cannot run programs that ask the system.
    cat > config.site << END
ac_cv_file__dev_ptmx=yes
ac_cv_file__dev_ptc=no
ac_cv_buggy_getaddrinfo=no
ac_cv_have_long_long_format=yes
END
    export CONFIG_SITE=$PWD/config.site PKG_CONFIG=false
    ./configure --build="$("$build_python" -c 'import platform; print(platform.machine())')-build-linux-gnu" \
        --host="$host" --with-build-python="$build_python" --prefix=/python --disable-shared --without-ensurepip \
        --without-doc-strings --disable-test-modules --with-openssl="$libraries" --with-system-ffi \
        LIBFFI_INCLUDEDIR="$libraries/include" MODULE_BUILDTYPE=static
    make -j"$jobs" build_all || make build_all
    make DESTDIR="$prefix" install
}

[ -e "$libraries/lib/libz.a" ] || step zlib zlib
[ -e "$libraries/lib/libffi.a" ] || step libffi libffi
[ -e "$libraries/lib/libssl.a" ] || step openssl openssl
step python python
