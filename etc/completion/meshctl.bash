# Completion of meshctl for bash: eval "$(meshctl completion bash)", or put this file
# into /usr/share/bash-completion/completions/meshctl.
_meshctl()
{
	local IFS=$'\n'
	COMPREPLY=($("${COMP_WORDS[0]}" complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -F _meshctl meshctl
