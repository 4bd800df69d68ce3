# Puts the keys of etc/meshnet-example.cfg into meshnet.cfg(5), so that the page is never older:
#   awk -f keys.awk -v docdir=DIR etc/meshnet-example.cfg docs/man/meshnet.cfg.5.in
# The example's comments say what a section or a key is for, and behind the last colon what it accepts.

function text(s) {
	gsub(/\\/, "\\e", s)
	sub(/^[.']/, "\\\\\\&&", s)
	return s
}

function sentence(s) {
	if (s !~ /^[a-z-]+( and [a-z-]+)?: /)	# the name of a daemon
		s = toupper(substr(s, 1, 1)) substr(s, 2)
	return text(s (s ~ /[.?!]$/ ? "" : "."))
}

function quoted(s) {
	gsub(/\\/, "\\e", s)
	gsub(/"/, "\\(dq", s)
	gsub(/,/, ",\\:", s)	# a long list may be broken there
	return "\"" s "\""
}

function add(line) {
	keys = keys line "\n"
}

# --- the example -----------------------------------------------------------------------------
FNR == NR {
	if (/^#/) {
		sub(/^# ?/, "")
		comment = comment (comment == "" ? "" : " ") $0
	} else if (/^\[/) {
		if (open)
			add(".El")
		add(".Ss " $0)
		if (comment != "" || pending != "")
			add(sentence(comment != "" ? comment : pending))
		add(".Bl -tag -width Ds")
		open = 1
		comment = pending = ""
	} else if (match($0, /^[A-Za-z0-9_]+ *=/)) {
		name = substr($0, 1, RLENGTH - 1)
		sub(/ +$/, "", name)
		value = substr($0, RLENGTH + 1)
		sub(/^ +/, "", value)
		accepts = ""
		if (match(comment, /: ([^ :]+\|[^ :]+|-?[0-9]+\.\.[0-9]+|64 hexadecimal digits)$/)) {
			accepts = substr(comment, RSTART + 2)
			comment = substr(comment, 1, RSTART - 1)
		}
		add(".It Ic " quoted(name " =" (value == "" ? "" : " " value)))
		if (comment != "")
			add(sentence(comment))
		if (accepts != "")
			add(".Pq " quoted(accepts))
		comment = ""
		n++
	} else {
		comment = ""
	}
	next
}

# --- the page --------------------------------------------------------------------------------
FNR == 1 {
	if (open)
		add(".El")
	if (!n) {
		print "keys.awk: no keys in the example" >"/dev/stderr"
		exit 1
	}
}
/^@KEYS@$/ {
	printf "%s", keys
	next
}
{
	gsub(/@DOCDIR@/, docdir)
	print
}
