#!/bin/sh
# python.sh SOURCES TARGET OUT: build Python for one target, as one executable with its modules and libraries in it:
# OUT/confpy, of which launcher.c says how it starts. Nothing else of Python is built.
#
# SOURCES has the unpacked Debian sources of python3.11, openssl, zlib and libffi; TARGET is as zig names it, such as
# x86_64-linux-musl or aarch64-linux-gnu.2.28 (with the oldest glibc to run on). $ZIG is zig, which has a compiler and a
# libc for each target, $PYTHON a Python of the same version as the sources for what runs during the build.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
sources=$(cd "$1" && pwd) target=$2
mkdir -p "$3"
out=$(cd "$3" && pwd)
machine=${target%%-*}
libc=${target##*-} libc=${libc%%.*}
host=$machine-linux-$libc
libraries=$out/libraries
log=$out/log
jobs=$(nproc)

# Compilers are commands with arguments, which not every build script takes: scripts of their own.
mkdir -p "$out/bin"
# script NAME COMMAND
script() {
    printf '#!/bin/sh\nexec %s "$@"\n' "$2" > "$out/bin/$1"
    chmod +x "$out/bin/$1"
}
# zig links musl into an executable unless it is told not to; ctypes, by which files are watched, needs the shared one.
script cc "'$ZIG' cc -target $target -dynamic"
script ar "'$ZIG' ar"
script ranlib "'$ZIG' ranlib"
PATH=$out/bin:$PATH
# libffi asks for a C++ compiler, and uses none: zig would build a library of it first.
export PATH CC=cc CXX=cc AR=ar RANLIB=ranlib
# zig's own checks for undefined behaviour end the program; what is built here relies on some.
export CFLAGS="-O2 -fPIC -fno-sanitize=undefined -g0 -w -ffunction-sections -fdata-sections"
export CPPFLAGS="-I$libraries/include" LDFLAGS="-L$libraries/lib -s"

# step NAME: run a function of this name.
step() {
    echo "python.sh: $target: $1" >&2
    # Nothing may stand after it: `set -e` would not hold within.
    "$1" >> "$log" 2>&1
}
trap '[ $? -eq 0 ] || tail -n 30 "$log" >&2' EXIT

# copy NAME: a copy of a source, since building changes it.
copy() {
    rm -rf "${out:?}/$1"
    cp -a "$sources/$1" "$out/$1"
    cd "$out/$1"
}

zlib() {
    copy zlib
    ./configure --static --prefix="$libraries"
    make -j"$jobs" libz.a
    make install
}

libffi() {
    copy libffi
    ./configure --host="$host" --prefix="$libraries" --disable-shared --disable-docs --disable-multi-os-directory \
        --disable-exec-static-tramp
    make -j"$jobs" install
}

# TLS as a client. Without what is old: no server that etcd or Consul is asks for it. The system's openssl.cnf is for the
# system's OpenSSL, and is not read: it may have words that this one does not know.
openssl() {
    copy openssl
    ./Configure "linux-$machine" --prefix="$libraries" --libdir=lib --openssldir=/etc/ssl \
        no-shared no-tests no-legacy no-engine no-comp no-afalgeng no-async no-dso no-autoload-config no-cmp no-cms \
        no-ct no-ts no-srp no-dtls no-sctp no-ssl3 no-gost no-sm2 no-sm3 no-sm4 no-aria no-bf no-camellia no-cast no-dsa \
        no-idea no-md4 no-mdc2 no-rc2 no-rc4 no-rmd160 no-seed no-siphash no-whirlpool no-ec2m no-ocb
    make -j"$jobs" build_generated
    make -j"$jobs" libcrypto.a libssl.a
    make install_dev
}

python() {
    copy python3.11
    # What configure cannot try where the program does not run, and then assumes the worst.
    cat > config.site << 'END'
ac_cv_file__dev_ptmx=yes
ac_cv_file__dev_ptc=no
ac_cv_aligned_required=no
ac_cv_broken_sem_getvalue=no
ac_cv_buggy_getaddrinfo=no
ac_cv_working_tzset=yes
END
    # zig's musl has them, but before 1.2.5 (Alpine 3.20) it did not.
    [ "$libc" != musl ] || printf 'ac_cv_func_%s=no\n' preadv2 pwritev2 >> config.site
    # Waits go by the monotonic clock: without sem_clockwait (glibc 2.30) Python would time those for semaphores by the
    # wall clock, but not those for conditions.
    CPPFLAGS="$CPPFLAGS -DHAVE_BROKEN_POSIX_SEMAPHORES"
    # musl has extended attributes, which Python 3.11 expects of glibc alone; the numbers are those of linux/limits.h.
    [ "$libc" != musl ] || CPPFLAGS="$CPPFLAGS -DUSE_XATTRS -DXATTR_SIZE_MAX=65536 -DXATTR_LIST_MAX=65536"
    # readelf reads what is for any machine; configure takes it only by another name.
    READELF=$(command -v readelf)
    export CONFIG_SITE=$PWD/config.site PKG_CONFIG=false MODULE_BUILDTYPE=static READELF
    ./configure --build="$(uname -m)-build-linux-gnu" --host="$host" --with-build-python="$PYTHON" --prefix=/usr \
        --disable-shared --without-ensurepip --without-doc-strings --disable-test-modules --with-computed-gotos \
        --with-openssl="$libraries" --with-system-ffi LIBFFI_INCLUDEDIR="$libraries/include" OPT="-DNDEBUG -fwrapv -O3"
    # Modules by which nothing of confpy's works, for hardware, or for Python's own tests.
    sed -E '/^(_crypt|_lsprof|audioop|nis|ossaudiodev|spwd|_tkinter|xx[a-z0-9_]*|_xxtestfuzz) /d' Modules/Setup.stdlib \
        > Modules/Setup.local
    # Its flags are those of setup.py, which builds it otherwise.
    echo '*static*' >> Modules/Setup.local
    echo "_ctypes _ctypes/_ctypes.c _ctypes/callbacks.c _ctypes/callproc.c _ctypes/stgdict.c _ctypes/cfield.c" \
        "-DHAVE_FFI_PREP_CIF_VAR -DHAVE_FFI_PREP_CLOSURE_LOC -DHAVE_FFI_CLOSURE_ALLOC" >> Modules/Setup.local
    make -j"$jobs" libpython3.11.a Modules/_decimal/libmpdec/libmpdec.a Modules/expat/libexpat.a
}

link() {
    cd "$out/python3.11"
    # shellcheck disable=SC2086  # flags
    cc $CFLAGS -I. -IInclude -o "$out/confpy" "$here/launcher.c" libpython3.11.a \
        Modules/_decimal/libmpdec/libmpdec.a Modules/expat/libexpat.a $LDFLAGS -lssl -lcrypto -lffi -lz -lm -ldl -lpthread -lutil -Wl,--gc-sections
}

[ -e "$libraries/lib/libz.a" ] || step zlib
[ -e "$libraries/lib/libffi.a" ] || step libffi
[ -e "$libraries/lib/libssl.a" ] || step openssl
[ -e "$out/python3.11/libpython3.11.a" ] || step python
step link
