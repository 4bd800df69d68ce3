#include "nodemanager/spawn.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/child.h"
#include "io/keyfile.h"

#define STOP_US 1000000u
#define OPTIONS_MAX 8
#define OPTION_BYTES (PATH_MAX + 64)

struct spawned {
	LIST_ENTRY(spawned) all;
	struct nm_spawner *spawner;
	struct child *child;
	struct mesh_id id;
	char name[NAME_MAX_BYTES + 1];
};

struct nm_spawner {
	struct daemon *daemon;
	struct mesh_id manager_key;
	uint16_t port;
	LIST_HEAD(, spawned) nodes;
	size_t count;
	void (*done)(void *arg);
	void *done_arg;
};

struct nm_spawner *nm_spawner_new(struct daemon *d, const struct mesh_id *manager_key,
				  uint16_t port)
{
	struct nm_spawner *s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->daemon = d;
	s->manager_key = *manager_key;
	s->port = port;
	return s;
}

static void spawned_free(struct spawned *n)
{
	LIST_REMOVE(n, all);
	n->spawner->count--;
	child_free(n->child);
	free(n);
}

void nm_spawner_free(struct nm_spawner *s)
{
	if (!s)
		return;
	while (!LIST_EMPTY(&s->nodes))
		spawned_free(LIST_FIRST(&s->nodes));
	free(s);
}

static void on_exit_(struct child *c, int status, void *arg)
{
	struct spawned *n = arg;
	struct nm_spawner *s = n->spawner;
	char text[48];
	(void)c;
	log_info("node process %s ended: %s", n->name, child_status_text(status, text));
	spawned_free(n);
	if (s->done && !s->count)
		s->done(s->done_arg);
}

void nm_spawner_stop(struct nm_spawner *s, void (*done)(void *arg), void *arg)
{
	struct spawned *n;
	s->done = done;
	s->done_arg = arg;
	LIST_FOREACH(n, &s->nodes, all)
		child_stop(n->child, STOP_US);
	if (!s->count)
		done(arg);
}

bool nm_spawn_runs(const struct nm_spawner *s, const struct mesh_id *id)
{
	const struct spawned *n;
	LIST_FOREACH(n, &s->nodes, all) {
		if (mesh_id_equal(&n->id, id))
			return true;
	}
	return false;
}

bool nm_spawn_named(const struct nm_spawner *s, const char *name)
{
	const struct spawned *n;
	LIST_FOREACH(n, &s->nodes, all) {
		if (strcmp(n->name, name) == 0)
			return true;
	}
	return false;
}

bool nm_spawn_name_ok(const char *name)
{
	static const char good[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
	size_t len = strlen(name);
	return len > 0 && len <= NAME_MAX_BYTES && name[0] != '.' && name[0] != '-' &&
	       strspn(name, good) == len;
}

/* "nodemanager" -> "node" and "meshnet-nodemanager" -> "meshnet-node", in our own directory. */
static int binary_path(const struct config *cfg, char out[PATH_MAX])
{
	static const char ours[] = "nodemanager";
	if (cfg->nodemanager_node_binary[0])
		return snprintf(out, PATH_MAX, "%s", cfg->nodemanager_node_binary) < PATH_MAX
			       ? 0
			       : -ENAMETOOLONG;
	ssize_t len = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (len < 0)
		return -errno;
	out[len] = '\0';
	char *deleted = strstr(out, " (deleted)"); /* replaced by an upgrade while we run */
	if (deleted)
		len = deleted - out;
	out[len] = '\0';
	char *end = out + len - (sizeof ours - 1);
	if (end < out || strcmp(end, ours) != 0)
		return -ENOENT;
	end[strlen("node")] = '\0';
	return 0;
}

struct command {
	char binary[PATH_MAX], options[OPTIONS_MAX][OPTION_BYTES];
	const char *argv[4 + 2 * OPTIONS_MAX];
	size_t argc, option_count;
	bool cut;
};

static void option(struct command *c, const char *key, const char *value, const char *more)
{
	char *text = c->options[c->option_count++];
	int n = snprintf(text, OPTION_BYTES, "%s=%s%s", key, value, more);
	if (n < 0 || n >= OPTION_BYTES)
		c->cut = true;
	c->argv[c->argc++] = "-o";
	c->argv[c->argc++] = text;
}

/* The local address on which a node of this host reaches us. */
static void manager_addr(const struct nm_spawner *s, char out[NET_ADDR_TEXT])
{
	struct net_addr a;
	static const uint8_t any[16];
	if (net_addr_parse(&a, s->daemon->cfg->nodemanager_listen_addr, 0) ||
	    memcmp(a.ip, any, sizeof any) == 0)
		a = (struct net_addr){.family = 4, .ip = {127, 0, 0, 1}};
	a.port = s->port;
	net_addr_text(&a, out);
}

static int command_fill(struct command *c, const struct nm_spawner *s, const char *name,
			const char *dir, bool connect)
{
	char key[MESH_ID_TEXT], addr[NET_ADDR_TEXT];
	int err = binary_path(s->daemon->cfg, c->binary);
	if (err)
		return err;
	c->argv[c->argc++] = c->binary;
	if (s->daemon->config_path) {
		c->argv[c->argc++] = "-f";
		c->argv[c->argc++] = s->daemon->config_path;
	}
	manager_addr(s, addr);
	option(c, "general.StateDir", dir, "");
	option(c, "general.LogLevel", s->daemon->cfg->general_log_level, "");
	option(c, "node.ManagerAddr", addr, "");
	option(c, "node.ManagerKey", mesh_id_text(&s->manager_key, key), "");
	option(c, "node.Name", name, "");
	option(c, "node.AppTalkAddr", "", "");
	option(c, "node.AppTalkUnix", dir, "/app.sock");
	option(c, "node.Connect", connect ? "yes" : "no", "");
	return c->cut ? -ENAMETOOLONG : 0;
}

static int start(struct nm_spawner *s, struct spawned *n, const char *dir, bool connect)
{
	struct command *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	int err = command_fill(c, s, n->name, dir, connect);
	struct child_spec spec = {
		.name = n->name,
		.argv = c->argv,
		.on_exit = on_exit_,
		.arg = n,
	};
	if (!err)
		err = child_start(&n->child, s->daemon->base, &spec);
	if (err)
		log_error("cannot start a node with %s: %s", c->binary, strerror(-err));
	free(c);
	return err;
}

int nm_spawn(struct nm_spawner *s, const char *name, bool connect, struct mesh_id *id)
{
	char dir[PATH_MAX];
	struct keypair key;
	if (s->count >= NM_SPAWN_MAX)
		return -EBUSY;
	if (!nm_spawn_name_ok(name))
		return -EINVAL;
	int len =
		snprintf(dir, sizeof dir, "%s/" NM_SPAWN_FOLDER "/%s", s->daemon->state_dir, name);
	if (len < 0 || (size_t)len >= sizeof dir)
		return -ENAMETOOLONG;
	int err = keyfile_make_dir(dir);
	if (!err)
		err = keyfile_load(dir, "node", &key);
	if (err)
		return err;
	*id = key.id;
	keyfile_wipe(&key);
	if (nm_spawn_runs(s, id))
		return -EEXIST;
	struct spawned *n = calloc(1, sizeof *n);
	if (!n)
		return -ENOMEM;
	n->spawner = s;
	n->id = *id;
	cstr_copy(n->name, sizeof n->name, name);
	err = start(s, n, dir, connect);
	if (err) {
		free(n);
		return err;
	}
	LIST_INSERT_HEAD(&s->nodes, n, all);
	s->count++;
	return 0;
}
