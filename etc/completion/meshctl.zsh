#compdef meshctl
# Completion of meshctl for zsh: eval "$(meshctl completion zsh)", or put this file as
# _meshctl into a folder of $fpath.
_meshctl()
{
	local -a found
	found=(${(f)"$("${words[1]}" complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)"})
	compadd -a found
}
if [[ "${funcstack[1]}" == _meshctl ]]; then
	_meshctl "$@"
else
	compdef _meshctl meshctl
fi
