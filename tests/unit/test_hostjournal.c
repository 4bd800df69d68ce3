/* io/hostjournal: whatever happens, undo leaves the network as it was.  In a namespace of its own.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>

#include <sys/wait.h>

#include "base/log.h"
#include "io/hostjournal.h"
#include "io/sysctl.h"
#include "netns.h"

#define FORWARD4 "net.ipv4.ip_forward"
#define FORWARD6 "net.ipv6.conf.all.forwarding"

static char dir[] = "/tmp/hostjournal-XXXXXX";
static char path[64];
static uint32_t link_a;

static void quiet(enum log_level level, const char *line)
{
	(void)level;
	(void)line;
}

/* What belongs to somebody else and must stay. */
static const char foreign[] =
	/* No IPv6 addresses of the kernel's own, which come and settle with delays. */
	"echo 1 > /proc/sys/net/ipv6/conf/default/addr_gen_mode;"
	"ip link set lo up; ip link add hv0 type veth peer name hv1; ip link set hv0 up;"
	"ip link set hv1 up; ip addr add 10.5.0.1/24 dev hv0; ip route add default via 10.5.0.2;"
	"ip route add 192.0.2.0/24 dev hv0 table 11700; ip rule add priority 11699 lookup 7;"
	"nft 'table inet other { chain c { type filter hook forward priority 0; policy accept;"
	" ip saddr 1.2.3.4 counter drop; }; }'; nft add table ip meshnet_gw";

/* Index numbers of links created and gone do not matter; lifetimes of addresses count down. */
static char *dump(void)
{
	return netns_output("ip -o link | sed 's/^[0-9]*: //'; ip -o addr | sed 's/valid_lft.*//';"
			    "ip -4 route show table all; ip -6 route show table all | sort;"
			    "ip -4 rule; ip -6 rule; nft -s list ruleset;"
			    "cat /proc/sys/net/ipv4/ip_forward"
			    " /proc/sys/net/ipv6/conf/all/forwarding");
}

static int setup(void **state)
{
	(void)state;
	log_set_sink(quiet);
	if (!netns_enter())
		return 0;
	free(netns_output(foreign));
	link_a = if_nametoindex("hv0");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/host.db", dir);
	usleep(100000); /* the veth's own IPv6 routes appear with a delay */
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	if (netns_enter()) {
		snprintf(command, sizeof command, "rm -r %s", dir);
		free(netns_output(command));
	}
	return 0;
}

static struct hostjournal *open_journal(void)
{
	struct hostjournal *j = NULL;

	if (!netns_enter())
		skip();
	assert_int_equal(hostjournal_open(&j, path), 0);
	return j;
}

static struct net_prefix prefix(const char *text)
{
	struct net_prefix p;

	assert_int_equal(net_prefix_parse(&p, text), 0);
	return p;
}

static struct nl_route route4(void)
{
	return (struct nl_route){
		.family = 4, .table = 11700, .dev = link_a, .via = prefix("10.5.0.9").addr};
}

static struct nl_route route6(void)
{
	return (struct nl_route){
		.family = 6, .table = 11700, .metric = 4278198272u, .type = NL_ROUTE_UNREACHABLE};
}

static struct nft_gateway gateway(void)
{
	static const char *const tunnels[] = {"mgw*"};

	return (struct nft_gateway){.table = "meshnet_gw",
				    .tunnels = tunnels,
				    .tunnel_count = 1,
				    .uplink = "hv0",
				    .pool4 = prefix("10.117.0.0/16"),
				    .pool6 = prefix("fd75::/64")};
}

static const struct nl_rule rule4 = {.family = 4, .priority = 11700, .table = 11700};
static const struct nl_rule rule6 = {
	.family = 6, .priority = 11700, .table = 254, .suppress = true};

/* One of each kind: what a subscriber and a gateway do. */
static int change_all(struct hostjournal *j)
{
	struct nl_addr a4 = {.link = link_a, .prefix = prefix("10.117.0.1/16")};
	struct nl_addr a6 = {.link = link_a, .prefix = prefix("fd75::1/64")};
	struct nl_route r4 = route4(), r6 = route6();
	struct nft_gateway gw = gateway();
	struct net_prefix lan = prefix("10.5.0.0/24");
	const char *tunnel = "mesh*";
	struct nft_killswitch ks = {.table = "meshnet_sub",
				    .tunnels = &tunnel,
				    .tunnel_count = 1,
				    .allowed = &lan,
				    .allowed_count = 1};

	/* Forwarding first: the kernel (6.18) can lose count of IPv6 anycast addresses when it is
	 * switched right after an address was added. */
	return host_sysctl_set(j, FORWARD4, "1") || host_sysctl_set(j, FORWARD6, "1") ||
	       host_link_add(j, "mtest0", "veth") || host_addr_add(j, &a4) ||
	       host_addr_add(j, &a6) || host_route_add(j, &r4) || host_route_add(j, &r6) ||
	       host_rule_add(j, &rule4) || host_rule_add(j, &rule6) || host_nft_gateway(j, &gw) ||
	       host_nft_killswitch(j, &ks);
}
#define CHANGES 11

static void assert_dump(const char *before)
{
	char *after = dump();

	/* cmocka cuts long strings: start where they differ. */
	size_t i = 0;
	while (before[i] && before[i] == after[i])
		i++;
	assert_string_equal(before + i, after + i);
	free(after);
}

static void test_clean_stop(void **state)
{
	struct hostjournal *j = open_journal();
	char *before = dump();

	(void)state;
	/* The dump shows what it should. */
	assert_non_null(strstr(before, "1.2.3.4"));
	assert_non_null(strstr(before, "192.0.2.0/24"));
	assert_non_null(strstr(before, "11699"));
	assert_int_equal(change_all(j), 0);
	assert_int_equal(hostjournal_count(j), CHANGES);
	char *changed = dump();
	assert_string_not_equal(before, changed);
	/* The same again is no error and no second entry. */
	assert_int_equal(change_all(j), 0);
	assert_int_equal(hostjournal_count(j), CHANGES);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	assert_int_equal(hostjournal_count(j), 0);
	assert_dump(before);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	hostjournal_close(j);
	assert_dump(before);
	free(before);
	free(changed);
}

static void crash_after(int (*act)(struct hostjournal *j))
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0) {
		struct hostjournal *j;
		_exit(hostjournal_open(&j, path) || act(j) ? 1 : 7);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void test_crash(void **state)
{
	(void)state;
	hostjournal_close(open_journal());
	char *before = dump();
	crash_after(change_all);
	char *changed = dump();
	assert_string_not_equal(before, changed);
	struct hostjournal *j = open_journal();
	assert_int_equal(hostjournal_count(j), CHANGES);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	hostjournal_close(j);
	assert_dump(before);
	free(before);
	free(changed);
}

/* Somebody took parts of it away meanwhile, and put others in the same places. */
static void test_tampered(void **state)
{
	(void)state;
	hostjournal_close(open_journal());
	crash_after(change_all);
	free(netns_output("ip link del mtest0; ip route del default table 11700;"
			  "ip rule del priority 11700; nft delete table inet meshnet_sub;"
			  "ip addr del 10.117.0.1/16 dev hv0;"
			  "ip link add mtest0 type veth peer name mtest1;"
			  "ip addr add 10.117.0.1/16 dev hv0;"
			  "ip route add default via 10.5.0.9 table 11700;"
			  "echo 0 > /proc/sys/net/ipv4/ip_forward"));
	struct hostjournal *j = open_journal();
	assert_int_equal(hostjournal_undo(j, 0), 0);
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
	char *left = netns_output("ip link show mtest0; ip addr show dev hv0; ip route show table"
				  " 11700; nft list tables");
	assert_non_null(strstr(left, "mtest0"));
	assert_non_null(strstr(left, "10.117.0.1/16"));
	assert_non_null(strstr(left, "default via 10.5.0.9"));
	assert_null(strstr(left, "inet meshnet"));
	assert_non_null(strstr(left, "table ip meshnet_gw"));
	free(left);
	free(netns_output("ip link del mtest0; ip addr del 10.117.0.1/16 dev hv0;"
			  "ip route del default table 11700"));
}

/* There before us: refused, not journalled, still there after undo. */
static void test_foreign(void **state)
{
	struct hostjournal *j = open_journal();
	struct nft_gateway gw = gateway();
	struct nl_route r = {
		.family = 4, .table = 11700, .dev = link_a, .dst = prefix("192.0.2.0/24")};
	struct nl_addr a = {.link = link_a, .prefix = prefix("10.5.0.1/24")};

	(void)state;
	free(netns_output("nft add table inet meshnet_gw; nft add chain inet meshnet_gw mine"));
	char *before = dump();
	assert_int_equal(host_route_add(j, &r), -EEXIST);
	assert_int_equal(host_addr_add(j, &a), -EEXIST);
	assert_int_equal(host_link_add(j, "hv0", "veth"), -EEXIST);
	assert_int_equal(host_nft_gateway(j, &gw), -EEXIST);
	assert_int_equal(hostjournal_count(j), 0);
	assert_int_equal(host_route_remove(j, &r), -ENOENT);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	assert_dump(before);
	hostjournal_close(j);
	free(before);
	free(netns_output("nft delete table inet meshnet_gw"));
}

static void test_remove_one_by_one(void **state)
{
	struct hostjournal *j = open_journal();
	struct nl_route r4 = route4();
	char *before = dump();

	(void)state;
	assert_int_equal(change_all(j), 0);
	assert_int_equal(host_nft_remove(j, "meshnet_sub"), 0);
	assert_int_equal(host_nft_remove(j, "meshnet_sub"), -ENOENT);
	assert_int_equal(host_route_remove(j, &r4), 0);
	assert_int_equal(host_rule_remove(j, &rule4), 0);
	assert_int_equal(host_sysctl_restore(j, FORWARD4), 0);
	assert_int_equal(host_link_remove(j, "mtest0"), 0);
	assert_int_equal(hostjournal_count(j), CHANGES - 5);
	/* What vanished by itself can be made again under the same entry. */
	free(netns_output("ip -6 rule del priority 11700"));
	assert_int_equal(host_rule_add(j, &rule6), 0);
	assert_int_equal(hostjournal_count(j), CHANGES - 5);
	/* A kill switch stays over a restart. */
	assert_int_equal(hostjournal_undo(j, HOST_NFT), 0);
	assert_int_equal(hostjournal_count(j), 1);
	assert_int_equal(hostjournal_undo(j, 0), 0);
	hostjournal_close(j);
	assert_dump(before);
	free(before);
}

static int set_twice(struct hostjournal *j)
{
	return host_sysctl_set(j, "net.ipv4.ip_default_ttl", "70") ||
	       host_sysctl_set(j, "net.ipv4.ip_default_ttl", "71");
}

static void assert_ttl(const char *want)
{
	char now[SYSCTL_VALUE_MAX];

	assert_int_equal(sysctl_read("net.ipv4.ip_default_ttl", now, sizeof now), 0);
	assert_string_equal(now, want);
}

static void undo_all(void)
{
	struct hostjournal *j = open_journal();

	assert_int_equal(hostjournal_undo(j, 0), 0);
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
}

static void test_sysctl(void **state)
{
	char before[SYSCTL_VALUE_MAX];

	(void)state;
	struct hostjournal *j = open_journal();
	assert_int_equal(sysctl_read("net.ipv4.ip_default_ttl", before, sizeof before), 0);
	/* The value it has already is not ours. */
	assert_int_equal(host_sysctl_set(j, "net.ipv4.ip_default_ttl", before), 0);
	assert_int_equal(hostjournal_count(j), 0);
	assert_int_equal(host_sysctl_set(j, "net.ipv4.no_such_key", "1"), -ENOENT);
	assert_int_equal(host_sysctl_set(j, "net.ipv4.//.core.somaxconn", "1"), -EINVAL);
	assert_int_equal(host_sysctl_set(j, "net.ipv4.ip_default_ttl", "no number"), -EINVAL);
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
	crash_after(set_twice);
	assert_ttl("71");
	undo_all();
	assert_ttl(before);
	crash_after(set_twice);
	assert_int_equal(sysctl_write("net.ipv4.ip_default_ttl", "99"), 0);
	undo_all();
	assert_ttl("99");
	/* Dying between the entry and the second write leaves the first value, which is ours. */
	assert_int_equal(sysctl_write("net.ipv4.ip_default_ttl", before), 0);
	crash_after(set_twice);
	assert_int_equal(sysctl_write("net.ipv4.ip_default_ttl", "70"), 0);
	undo_all();
	assert_ttl(before);
}

static void test_second_process(void **state)
{
	struct hostjournal *j = open_journal(), *second = NULL;

	(void)state;
	assert_int_equal(hostjournal_open(&second, path), -EBUSY);
	assert_null(second);
	hostjournal_close(j);
}

/* Entries of another namespace wait; those of an earlier boot are dropped. */
static void test_elsewhere(void **state)
{
	char command[256];

	(void)state;
	undo_all();
	crash_after(change_all);
	char *changed = dump();
	pid_t pid = fork();
	if (pid == 0) {
		struct hostjournal *j;
		_exit(unshare(CLONE_NEWNET) || hostjournal_open(&j, path) || hostjournal_count(j) ||
				      hostjournal_undo(j, 0)
			      ? 1
			      : 7);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_dump(changed);
	free(changed);
	undo_all();

	crash_after(set_twice);
	snprintf(command, sizeof command,
		 "python3 -c \"import sqlite3; c = sqlite3.connect('%s');"
		 "c.execute(\\\"update change set boot = 'earlier'\\\"); c.commit()\"",
		 path);
	free(netns_output(command));
	struct hostjournal *j = open_journal();
	assert_int_equal(hostjournal_count(j), 0);
	hostjournal_close(j);
	assert_ttl("71");
}

/* A file that somebody edited: nothing wild happens, the bad entry stays and is told. */
static void test_damaged_entry(void **state)
{
	char command[256];

	(void)state;
	undo_all();
	crash_after(change_all);
	char *changed = dump();
	snprintf(command, sizeof command,
		 "python3 -c \"import sqlite3; c = sqlite3.connect('%s');"
		 "c.execute('update change set spec = cast(substr(spec, 1, 3) || id as blob)');"
		 "c.commit()\"",
		 path);
	free(netns_output(command));
	struct hostjournal *j = open_journal();
	assert_int_equal(hostjournal_undo(j, 0), CHANGES);
	assert_int_equal(hostjournal_count(j), CHANGES);
	hostjournal_close(j);
	assert_dump(changed);
	free(changed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean_stop),	  cmocka_unit_test(test_crash),
		cmocka_unit_test(test_tampered),	  cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_remove_one_by_one), cmocka_unit_test(test_sysctl),
		cmocka_unit_test(test_second_process),	  cmocka_unit_test(test_elsewhere),
		cmocka_unit_test(test_damaged_entry),
	};
	return cmocka_run_group_tests_name("hostjournal", tests, setup, teardown);
}
