# /etc/meshnet.cfg from etc/meshnet-example.cfg: the same with every key as a comment, so that defaults stay
# defaults when a later version has better ones, and the file of an operator says what is different.
NR == 1 {
	print "# Meshnet: the configuration of all daemons (meshnet.cfg(5))."
	print "#"
	print "# Every key stands here with its default.  Take away the # in front of a key to change it, then"
	print "# `service meshnet-NAME reload`; some keys need a restart.  `meshnet-NAME --check` says what is wrong."
	print "# Names of sections and keys are compared without case and underscores.  \"#\" or \";\" begins a comment"
	print "# line, \" ;\" a comment after a value.  Only root and the group meshnet may read this file."
	head = 1
	next
}
head {
	if (/^#/)
		next
	head = 0
}
/^[A-Za-z0-9_]+ *=/ {
	sub(/^/, "#")
}
{
	print
}
