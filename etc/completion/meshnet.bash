# Completion of the daemons and apps (meshnet-node, ...) for bash, as their own --help has it: put this
# file into /usr/share/bash-completion/completions under the name of each.
_meshnet()
{
	local IFS=$'\n' found help
	help=$("$1" --help 2>/dev/null) || return
	case $3 in
	-f | --background)
		compopt -o filenames
		COMPREPLY=($(compgen -f -- "$2"))
		return
		;;
	-o)
		compopt -o nospace
		found=$(awk '/^\[/ { s = substr($0, 2, length($0) - 2) } s && /^  [^ ]+ = / { print s "." $1 "=" }' <<<"$help")
		;;
	*)
		found=$(sed '/^SIGHUP/,$d' <<<"$help" | grep -oE -- '(^|[][ ,|])--?[a-z][a-z0-9]*' | tr -d '][ ,|')
		[[ $1 != *echo ]] || found+=$'\nserver\nclient'
		;;
	esac
	COMPREPLY=($(compgen -W "$found" -- "$2" | sort -u))
}
complete -F _meshnet meshnet-apptracker meshnet-echo meshnet-gatewayd meshnet-node meshnet-nodemanager \
	meshnet-socks-client meshnet-socks-server meshnet-subscriberd meshnet-vpn-client meshnet-vpn-server
