#!/bin/sh
# Installs the Debian 12 packages that a task needs and that are missing.
#   etc/deps.sh GROUP...     groups: build deb test vm packaging cross=TRIPLET demo lint fuzz bench
#   NO_BROWSER=1 leaves Chromium out (0.4 GB; the tests that need it are then skipped)
# With everything there this is one dpkg-query.
# systemd-resolved (for one test) is only unpacked, into build/debian: installed, it would take over
# this machine's /etc/resolv.conf.
set -eu

build="gcc libc6-dev make pkg-config libevent-dev libjson-c-dev libsodium-dev libsqlite3-dev
	libinih-dev libmnl-dev libnftables-dev libssl-dev libedit-dev"
lab="python3 iproute2 ethtool nftables iputils-ping iperf3 curl procps"
tunnels="wireguard-go fastd openvpn dante-server softether-vpnserver softether-vpnclient softether-vpncmd"
peers="yggdrasil tinc nebula openvpn openssl wireguard-go wireguard-tools microsocks"
tests="python3-pytest python3-jsonschema python3-prometheus-client libcmocka-dev clang libclang-rt-14-dev clang-format
	openssl
	dbus libsystemd-shared
	zsh"
# The kernel that it boots is unpacked from its package, not installed (tests/vm/vm.py).
vm="qemu-system-x86 busybox-static kmod python3-pytest batctl"
# A word a line, so that each test's packages stand by themselves.
packaging="python3-pytest
	debootstrap
	mandoc
	zsh
	build-essential
	debhelper
	dpkg-dev
	lintian
	busybox-static
	shellcheck
	gcc-s390x-linux-gnu
	qemu-user
	docker-compose
	docker.io"
networks="babeld bird2 frr yggdrasil"
browser=chromium
[ "${NO_BROWSER:-0}" = 0 ] || browser=

packages() {
	case $1 in
	build) echo "$build" ;;
	deb) echo "$build build-essential debhelper dpkg-dev" ;;
	test) echo "$build $lab $tunnels $networks $browser $tests" ;;
	vm) echo "$build $lab $vm" ;;
	packaging) echo "$build $lab $packaging" ;;
	cross=*) echo "make gcc-$(echo "${1#cross=}" | tr _ -)" ;;
	demo) echo "$build $lab" ;;
	lint) echo "$build python3 clang clang-format clang-tidy cppcheck" ;;
	fuzz) echo "$build clang libclang-rt-14-dev" ;;
	bench) echo "$build $lab $peers libigraph-dev" ;;
	*)
		echo "etc/deps.sh: unknown group '$1'; the groups are build deb test vm packaging cross=TRIPLET demo lint fuzz bench" >&2
		exit 2
		;;
	esac
}

unpack() {
	into=$(dirname "$0")/../build/debian
	[ ! -e "$into/$1" ] && command -v apt-get >/dev/null 2>&1 && [ ! -x "/usr/bin/$2" ] || return 0
	mkdir -p "$into/tmp"
	# Without it one test is skipped, and says so.
	if (cd "$into/tmp" && apt-get download -qq "$1" >/dev/null 2>&1); then
		dpkg-deb -x "$into/tmp/$1"_*.deb "$into/tmp/$1" && mv "$into/tmp/$1" "$into/$1"
	fi
	rm -rf "$into/tmp"
}

[ $# -gt 0 ] || set -- build
unpack_all() {
	case $groups in
	*" test "*) unpack systemd-resolved resolvectl ;;
	esac
}
groups=" $* "
wanted=
for group in "$@"; do
	wanted="$wanted $(packages "$group")"
done

if ! command -v dpkg-query >/dev/null 2>&1; then
	echo "etc/deps.sh: this is not Debian; make sure that you have:" $wanted >&2
	exit 0
fi

# A package that dpkg knows as anything but installed is missing.
# shellcheck disable=SC2086
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $wanted 2>/dev/null |
	sed -n 's/^installed //p' | tr '\n' ' ') || true
missing=
for p in $wanted; do
	case " $installed $missing " in
	*" $p "*) ;;
	*) missing="$missing $p" ;;
	esac
done
if [ -z "$missing" ]; then
	unpack_all
	exit 0
fi

if [ "$(id -u)" -ne 0 ]; then
	echo "Some Debian packages are missing.  Install them and try again:" >&2
	echo "  sudo apt-get install -y --no-install-recommends$missing" >&2
	exit 1
fi

# Some packages bring services (routing daemons, VPN servers) that would begin to work on this host's
# network.  The tests start what they need by themselves: here nothing is started or enabled.
policy=/usr/sbin/policy-rc.d
unit_files() {
	find /lib/systemd/system /usr/lib/systemd/system -maxdepth 1 -name '*.service' 2>/dev/null |
		sed 's|.*/||' | sort -u
}
if [ ! -e $policy ] && printf '#!/bin/sh\nexit 101\n' >$policy 2>/dev/null; then
	trap 'rm -f $policy' EXIT
	chmod 755 $policy
fi
units_before=" $(unit_files | tr '\n' ' ')"
disable_new() {
	command -v systemctl >/dev/null 2>&1 || return 0
	for u in $(unit_files); do
		case $units_before in
		*" $u "*) ;;
		*) systemctl disable -q "$u" >/dev/null 2>&1 || true ;;
		esac
	done
}

export DEBIAN_FRONTEND=noninteractive
apt="apt-get -o DPkg::Lock::Timeout=300"
install="$apt install -y -qq --no-install-recommends$missing"
echo "installing from Debian:$missing"
# Package lists may be absent (a fresh image) or too old (files gone): then fetch them and retry.
if ! $install </dev/null >/dev/null 2>&1; then
	$apt update -qq </dev/null
	$install </dev/null >/dev/null
fi
disable_new
unpack_all # with the package lists that there are now
