#!/bin/sh
# Makes a folder with the libraries and headers of another CPU, for `make CROSS=TRIPLET`.
#   etc/sysroot.sh TRIPLET [DIR]     DIR: build/cross/TRIPLET
# Needs no root and changes nothing outside of DIR and DIR.tmp: apt works with a state of its own, and
# packages are unpacked, not installed.  They come from where this machine takes its Debian packages.
# What is interrupted goes on where it was; DIR appears when it is whole.
set -eu

packages="libc6-dev libevent-dev libjson-c-dev libsodium-dev libsqlite3-dev libinih-dev libmnl-dev
	libnftables-dev libssl-dev libedit-dev libcmocka-dev"
# Wanted by a library's installation, not by the library.
left_out="debconf install-info perl perl-base media-types tzdata"

say() { echo "etc/sysroot.sh: $*" >&2; }
give_up() {
	say "$*"
	say "with libraries of your own: make CROSS=$triplet SYSROOT=DIR"
	exit 1
}

triplet=${1:?usage: etc/sysroot.sh TRIPLET [DIR]}
dir=${2:-$(dirname "$0")/../build/cross/$triplet}
case $triplet in
aarch64-linux-gnu) arch=arm64 ;;
arm-linux-gnueabihf) arch=armhf ;;
arm-linux-gnueabi) arch=armel ;;
i686-linux-gnu) arch=i386 ;;
mips64el-linux-gnuabi64) arch=mips64el ;;
mipsel-linux-gnu) arch=mipsel ;;
powerpc64le-linux-gnu) arch=ppc64el ;;
s390x-linux-gnu) arch=s390x ;;
x86_64-linux-gnu) arch=amd64 ;;
*) give_up "Debian has no libraries for '$triplet'" ;;
esac

# The folder names what it holds, so that a longer list of packages (or another rule) makes it anew.
whole="$arch $(echo $packages), links within"
is_whole() { [ "$(cat "$dir/.whole" 2>/dev/null)" = "$whole" ]; }
is_whole && exit 0
for tool in apt-get dpkg-deb flock; do
	command -v $tool >/dev/null 2>&1 || give_up "this needs Debian's $tool"
done

mkdir -p "$(dirname "$dir")"
exec 9>"$dir.lock"
flock 9
is_whole && exit 0 # another one made it meanwhile
mkdir -p "$dir.tmp"
tmp=$(cd "$dir.tmp" && pwd)
rm -rf "$tmp/root"
mkdir -p "$tmp/etc/sources.list.d" "$tmp/lists/partial" "$tmp/cache/archives/partial" "$tmp/root"

# The source files that name this machine's release, with their keys.
release=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")
apt-get indextargets --no-release-info 'Created-By: Packages' |
	awk -v release="$release" '/^Release: / { fits = $2 ~ "^" release "(-updates|-security)?$" }
		/^Sourcesentry: / && fits { sub(/:[0-9]+$/, "", $2); print $2 }' | sort -u |
	while read -r file; do
		cp "$file" "$tmp/etc/sources.list.d/"
	done
[ -n "$(ls "$tmp/etc/sources.list.d")" ] || give_up "apt has no source for $release"

: >"$tmp/status"
for p in $left_out; do
	printf 'Package: %s\nStatus: install ok installed\nArchitecture: all\nMulti-Arch: foreign\nVersion: 999\n\n' \
		"$p" >>"$tmp/status"
done
cat >"$tmp/apt.conf" <<CONF
APT::Architecture "$arch";
#clear APT::Architectures;
APT::Architectures { "$arch"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear DPkg::Post-Invoke;
Acquire::Languages "none";
Acquire::Retries "3";
Binary::apt-get::APT::Keep-Downloaded-Packages "true";
Dir::State "$tmp";
Dir::State::lists "$tmp/lists/";
Dir::State::status "$tmp/status";
Dir::Cache "$tmp/cache/";
Dir::Log "$tmp";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$tmp/etc/sources.list.d/";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
CONF
apt="apt-get -c $tmp/apt.conf"
[ -t 2 ] || apt="$apt -q"

say "libraries for $arch: the list of packages"
$apt update >&2 || say "not every list came; going on with what there is"
say "libraries for $arch: downloading"
# shellcheck disable=SC2086
$apt install -y --download-only $packages >&2 || give_up "some packages did not come; once more goes on from here"
for deb in "$tmp"/cache/archives/*.deb; do
	dpkg-deb -x "$deb" "$tmp/root"
done
# A link to /lib/... would lead out of the folder, and the linker would take libm.a for a missing libm.so.
find "$tmp/root" -type l -lname '/*' | while read -r link; do
	ln -sfnr "$tmp/root$(readlink "$link")" "$link"
done
rm -rf "$tmp/root/usr/share/doc" "$tmp/root/usr/share/man" "$tmp/root/usr/share/locale"
echo "$whole" >"$tmp/root/.whole"
rm -rf "$dir"
mv "$tmp/root" "$dir"
rm -rf "$tmp"
say "libraries for $arch are in $dir"
