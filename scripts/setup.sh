# Sourced by the other scripts: makes a virtual environment, and installs missing Debian packages.

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$root/.venv
# Servers are in sbin, which may be missing from the PATH of users other than root.
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}:/usr/local/sbin:/usr/sbin:/sbin
export PATH

say() {
    echo "$(basename "$0"): $*" >&2
}

die() {
    say "$*"
    exit 1
}

# Set $python to a version that confpy supports.
find_python() {
    for python in python3 python3.14 python3.13 python3.12 python3.11 /usr/bin/python3; do
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null && return
    done
    die "Python 3.11 or newer is needed: install python3"
}

# Install these Debian packages without starting their services.
install_packages() {
    [ $# -gt 0 ] || return 0
    command -v apt-get > /dev/null || die "these Debian packages are missing, and there is no apt to install them: $*"
    as_root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo > /dev/null || die "missing packages, which only root can install: apt-get install $*"
        as_root=sudo
    fi
    say "installing $*"
    $as_root sh -eu -s -- "$@" >&2 << 'END'
        # https://people.debian.org/~hmh/invokerc.d-policyrc.d-specification.txt: 101 forbids starting a service.
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap 'rm -f $policy' EXIT
            trap 'exit 1' HUP INT TERM
            printf '#!/bin/sh\nexit 101\n' > $policy
            chmod 755 $policy
        fi
        export DEBIAN_FRONTEND=noninteractive
        for step in update "install -y --no-install-recommends $*"; do
            said=$(apt-get -q -o DPkg::Lock::Timeout=120 $step 2>&1 < /dev/null) || { echo "$said"; exit 1; }
        done
        # Nor start them at the next boot.
        for package; do
            case $package in
                docker.io) units="docker.service docker.socket containerd.service" ;;
                *) units=${package%%-*} ;;
            esac
            systemctl disable --quiet $units 2> /dev/null || true
        done
END
}

# Succeed if .venv has the project with these extras.
has_venv() {
    find_python
    extras=$1
    wanted="$("$python" -c 'import sys; print(sys.version)') $root $extras $(cksum < "$root/pyproject.toml")"
    stamp=$venv/confpy-${extras:-alone}
    [ "$wanted" = "$(cat "$stamp" 2> /dev/null)" ]
}

# Succeed if Python can make virtual environments. On Debian this needs the package python3-venv.
can_make_venv() {
    find_python
    "$python" -c 'import ensurepip, venv' 2> /dev/null
}

# Make .venv and install the project into it, with these extras, if that has not been done.
make_venv() {
    ! has_venv "$1" || return 0
    can_make_venv || install_packages python3-venv
    if ! "$venv/bin/python" -m pip --version > /dev/null 2>&1; then
        say "making .venv"
        "$python" -m venv --clear "$venv"
    fi
    # In compat mode an editable installation is a line in a .pth file; other modes run code at each start of Python.
    say "installing confpy${extras:+[$extras]} into .venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        --config-settings editable_mode=compat --editable "$root${extras:+[$extras]}" >&2
    echo "$wanted" > "$stamp"
}

# Print the Debian packages that are missing to build a self-contained folder. Its Python comes as source; a Python of the
# same version takes part in the build, which no other Debian has.
missing_for_folder() {
    case $(cat /etc/debian_version 2> /dev/null) in
        12.*) command -v python3.11 > /dev/null || echo python3.11 ;;
    esac
    command -v dpkg-source > /dev/null || echo dpkg-dev
    command -v readelf > /dev/null || echo binutils
    command -v make > /dev/null || echo make
    command -v xz > /dev/null || echo xz-utils
    # Of perl-base, which is always there, OpenSSL's build needs more than it has.
    perl -MPod::Usage -MFile::Compare -e 1 2> /dev/null || echo perl
}
