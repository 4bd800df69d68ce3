#compdef meshnet-apptracker meshnet-echo meshnet-gatewayd meshnet-node meshnet-nodemanager meshnet-socks-client meshnet-socks-server meshnet-subscriberd meshnet-vpn-client meshnet-vpn-server
# Completion of the daemons and apps for zsh, as their own --help has it: put this file as _meshnet into
# a folder of $fpath.
_meshnet()
{
	local help
	local -a found
	help=$("${words[1]}" --help 2>/dev/null) || return 1
	case ${words[CURRENT-1]} in
	-f | --background)
		_files
		return
		;;
	-o)
		found=(${(f)"$(awk '/^\[/ { s = substr($0, 2, length($0) - 2) } s && /^  [^ ]+ = / { print s "." $1 "=" }' <<<"$help")"})
		compadd -S '' -a found
		return
		;;
	esac
	found=(${(fu)"$(sed '/^SIGHUP/,$d' <<<"$help" | grep -oE -- '(^|[][ ,|])--?[a-z][a-z0-9]*' | tr -d '][ ,|')"})
	[[ ${words[1]} != *echo ]] || found+=(server client)
	compadd -a found
}
_meshnet "$@"
