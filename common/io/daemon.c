#include "io/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cstr.h"
#include "base/log.h"
#include "io/background.h"
#include "io/config_doc.h"
#include "io/config_value.h"
#include "io/daemon_log.h"
#include "io/keyfile.h"
#include "io/notify.h"
#include "io/privileges.h"
#include "io/timer.h"

#ifndef MESHNET_VERSION
#define MESHNET_VERSION "unknown"
#endif

#define OPTIONS_MAX 256
#define FILES_OF_OUR_OWN 256 /* databases, listeners, channels that are not admitted yet */
#define FILES_WANTED 65536
#define HARD_STOP_SECONDS 2 /* when even the loop is stuck; later than DAEMON_STOP_US */
#define EXIT_USAGE 2

enum mode { MODE_RUN, MODE_CHECK, MODE_CLEANUP, MODE_DONE };

struct daemon_priv {
	const struct daemon_spec *spec;
	struct config_source source;
	const char *options[OPTIONS_MAX];
	struct event *on_term, *on_int, *on_hup, *deadline, *watchdog;
	enum mode mode;
	bool debug, stopping, held, ready_held, ending;
	uint64_t privileges; /* kept, as far as there were any */
	int exit_code, lock_fd;
	const char *notify_path;
	const char *pid_file; /* --background */
	int background_fd;    /* who waits for us to be ready; -1: nobody */
};

static void log_apply(struct daemon *d)
{
	struct daemon_priv *p = d->priv;

	daemon_log_open(d->cfg->daemon_log_format, d->name, p->pid_file && p->background_fd < 0);
	log_set_level(p->debug ? LOG_LEVEL_DEBUG : daemon_log_level(d->cfg->general_log_level));
}

/* --- the service manager ------------------------------------------------------------------ */

void daemon_status(struct daemon *d, const char *text)
{
	char line[300];

	cstr_print(line, sizeof line, "STATUS=%.256s", text);
	notify(d->priv->notify_path, line);
}

void daemon_hold_ready(struct daemon *d)
{
	d->priv->ready_held = true;
}

void daemon_ready(struct daemon *d)
{
	struct daemon_priv *p = d->priv;

	p->ready_held = false;
	if (p->background_fd >= 0) {
		background_ready(p->background_fd);
		p->background_fd = -1;
		log_apply(d);
	}
	log_info("%s %s is ready", d->name, MESHNET_VERSION);
	notify(p->notify_path, "READY=1");
}

/* --- arguments ---------------------------------------------------------------------------- */

static void help_keys(const char *doc)
{
	const char *section = doc;
	char range[256];

	printf("\n[%s]\n", section);
	for (size_t i = 0; i < config_key_count(); i++) {
		const struct config_key *k = &config_keys()[i];

		if (strcmp(k->section, section) != 0)
			continue;
		doc = config_doc_next(doc);
		printf("  %s = %s\n      %s; %s\n", k->key, k->def, doc,
		       config_key_range(k, range, sizeof range));
	}
}

static void help_print(const struct daemon_spec *spec)
{
	const char *sections = spec->sections;
	char section[64];

	printf("%s: %s\n\n"
	       "usage: %s [-f FILE] [-o section.key=value]... [-d] [--background FILE]\n"
	       "       [--check%s]\n\n"
	       "  -f FILE               configuration file (default " CONFIG_DEFAULT_PATH ")\n"
	       "  -o section.key=value  one key; wins over the file; repeatable\n"
	       "  -d                    log debug lines\n"
	       "  --background FILE     return when it is ready; its process id is put into FILE\n"
	       "  --check               validate the configuration and exit\n"
	       "%s"
	       "  --version, --help\n\n"
	       "SIGHUP reads the configuration again, SIGTERM ends.  Keys read by %s, with their\n"
	       "defaults and what they accept (meshnet-example.cfg explains all keys):\n",
	       spec->name, spec->summary, spec->name, spec->cleanup ? "|--cleanup" : "",
	       spec->cleanup ? "  --cleanup             take back what a killed run left on this "
			       "host and exit\n"
			     : "",
	       spec->name);
	for (const char *const *doc = daemon_docs; !sections && *doc; doc++)
		help_keys(*doc);
	while (sections && config_list_next(&sections, section, sizeof section))
		for (const char *const *doc = daemon_docs; *doc; doc++)
			if (strcmp(*doc, section) == 0)
				help_keys(*doc);
}

static int usage_error(const struct daemon_spec *spec, const char *what, const char *argument)
{
	fprintf(stderr, "%s: %s '%s' (see %s --help)\n", spec->name, what, argument, spec->name);
	return EXIT_USAGE;
}

/* The argument that getopt stumbled over, as the user wrote it. */
static int usage_unknown(const struct daemon_spec *spec, char **argv, const char *what)
{
	char letter[3] = {'-', (char)optopt, '\0'};

	if (optopt > 0 && optopt < 128)
		return usage_error(spec, what, letter);
	return usage_error(spec, what, argv[optind - 1]);
}

static int option_take(struct daemon_priv *p, int c, char **argv)
{
	switch (c) {
	case 'f':
		p->source.path = optarg;
		return 0;
	case 'o':
		if (p->source.n_options == OPTIONS_MAX)
			return usage_error(p->spec, "too many options at", optarg);
		p->options[p->source.n_options++] = optarg;
		return 0;
	case 'd':
		p->debug = true;
		return 0;
	case 'b':
		p->pid_file = optarg;
		return 0;
	case 'c':
		p->mode = MODE_CHECK;
		return 0;
	case 'C':
		if (!p->spec->cleanup)
			return usage_error(p->spec, "nothing to clean up; argument", "--cleanup");
		p->mode = MODE_CLEANUP;
		return 0;
	case ':':
		return usage_unknown(p->spec, argv, "a value is missing after");
	default:
		return usage_unknown(p->spec, argv, "unknown argument");
	}
}

static int arguments_parse(struct daemon_priv *p, int argc, char **argv)
{
	static const struct option longs[] = {
		{"check", no_argument, NULL, 'c'},
		{"cleanup", no_argument, NULL, 'C'},
		{"version", no_argument, NULL, 'v'},
		{"help", no_argument, NULL, 'h'},
		{"debug", no_argument, NULL, 'd'},
		{"background", required_argument, NULL, 'b'},
		{0},
	};
	int c, rc;

	optind = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, "+:f:o:dh", longs, NULL)) != -1) {
		if (c == 'v' || c == 'h') {
			if (c == 'v')
				printf("%s %s\n", p->spec->name, MESHNET_VERSION);
			else
				help_print(p->spec);
			p->mode = MODE_DONE;
			return 0;
		}
		rc = option_take(p, c, argv);
		if (rc)
			return rc;
	}
	if (optind < argc)
		return usage_error(p->spec, "unexpected argument", argv[optind]);
	return 0;
}

/* --- configuration ------------------------------------------------------------------------ */

static void report_stderr(void *ctx, const char *line)
{
	const struct daemon_spec *spec = ctx;

	fprintf(stderr, "%s: %s\n", spec->name, line);
}

static void report_log(void *ctx, const char *line)
{
	(void)ctx;
	log_error("%s", line);
}

static int configuration_load(struct daemon *d, struct config **out, config_report *report)
{
	struct daemon_priv *p = d->priv;
	void *ctx = (void *)(uintptr_t)p->spec;
	int rc = config_load(out, &p->source, report, ctx);

	if (rc)
		return rc;
	rc = p->spec->check ? p->spec->check(*out, report, ctx) : 0;
	if (rc) {
		config_free(*out);
		*out = NULL;
	}
	return rc;
}

static uint64_t privileges_wanted(const struct daemon *d)
{
	const struct daemon_spec *spec = d->priv->spec;

	return spec->privileges ? spec->privileges(d->cfg) : 0;
}

/* What was given up does not come back. */
static void privileges_compare(const struct daemon *d)
{
	uint64_t missing = privileges_wanted(d) & ~d->priv->privileges;
	char text[256];

	if (missing)
		log_warn("what is configured now needs a restart: privileges %s",
			 privileges_text(missing, text));
}

/* Also makes the state directory. */
static int privileges_drop(struct daemon *d)
{
	struct daemon_priv *p = d->priv;
	uint64_t wanted = privileges_wanted(d), have = privileges_have();
	const char *user = d->cfg->daemon_user;
	char text[256];
	int rc = p->spec->own_user ? privileges_become(user, d->state_dir, d->name, p->spec->tree)
				   : privileges_stay(user, d->state_dir, p->spec->groups);

	if (!rc)
		rc = keyfile_make_dir(d->state_dir);
	if (rc || p->mode == MODE_CLEANUP)
		return rc;
	/* Whoever runs without them was told what does not work when it was tried, not here. */
	p->privileges = wanted;
	if (have)
		log_debug("uid %d, privileges %s", (int)geteuid(),
			  privileges_text(wanted & have, text));
	return privileges_limit(wanted);
}

static void on_reload(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;
	struct config *fresh;
	char line[80];

	(void)fd;
	(void)what;
	cstr_print(line, sizeof line, "RELOADING=1\nMONOTONIC_USEC=%llu",
		   (unsigned long long)daemon_now_us());
	notify(d->priv->notify_path, line);
	if (configuration_load(d, &fresh, report_log)) {
		log_error("configuration not reloaded: the old one stays in use");
	} else {
		log_info("configuration reloaded, %u keys changed", config_replace(d->cfg, fresh));
		log_apply(d);
		privileges_compare(d);
		if (d->priv->spec->reload)
			d->priv->spec->reload(d);
	}
	notify(d->priv->notify_path, "READY=1");
}

/* --- the end ------------------------------------------------------------------------------ */

void daemon_hold(struct daemon *d)
{
	d->priv->held = true;
}

void daemon_exit(struct daemon *d, int code)
{
	d->priv->ending = true;
	d->priv->exit_code = code;
	event_base_loopbreak(d->base);
}

static void on_alarm(int sig)
{
	static const char text[] = "the end took too long, giving up\n";
	ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);

	(void)sig;
	(void)n;
	_exit(1);
}

static void on_deadline(evutil_socket_t fd, short what, void *ctx)
{
	struct daemon *d = ctx;

	(void)fd;
	(void)what;
	log_warn("ending before everything was closed in order");
	daemon_exit(d, d->priv->exit_code);
}

static void on_stop(evutil_socket_t sig, short what, void *ctx)
{
	static const struct timeval grace = {.tv_sec = DAEMON_STOP_US / 1000000,
					     .tv_usec = DAEMON_STOP_US % 1000000};
	struct daemon *d = ctx;
	struct daemon_priv *p = d->priv;

	(void)what;
	if (p->stopping) {
		daemon_exit(d, p->exit_code);
		return;
	}
	p->stopping = true;
	log_info("ending: %s", strsignal((int)sig));
	notify(p->notify_path, "STOPPING=1");
	alarm(HARD_STOP_SECONDS);
	if (p->spec->stop)
		p->spec->stop(d);
	if (p->ending)
		return;
	if (!p->held || event_add(p->deadline, &grace))
		daemon_exit(d, p->exit_code);
}

/* --- running ------------------------------------------------------------------------------ */

static void libevent_log(int severity, const char *text)
{
	if (severity >= EVENT_LOG_ERR)
		log_error("libevent: %s", text);
	else if (severity == EVENT_LOG_WARN)
		log_warn("libevent: %s", text);
	else
		log_debug("libevent: %s", text);
}

static struct event_base *base_open(bool coarse)
{
	struct event_config *config = event_config_new();
	struct event_base *base = NULL;

	if (config && (coarse || !event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER)))
		base = event_base_new_with_config(config);
	if (config)
		event_config_free(config);
	if (base && event_base_priority_init(base, 3)) {
		event_base_free(base);
		base = NULL;
	}
	return base;
}

/* While no handler is in place: a SIGTERM that comes early waits for the loop, and one that comes
 * again while everything is being closed does not cut that short. */
static void signals_block(int how)
{
	static const int ours[] = {SIGTERM, SIGINT, SIGHUP};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		sigaddset(&set, ours[i]);
	sigprocmask(how, &set, NULL);
}

static int signals_open(struct daemon *d)
{
	struct daemon_priv *p = d->priv;
	struct sigaction act = {.sa_handler = SIG_IGN};

	sigaction(SIGPIPE, &act, NULL);
	act.sa_handler = on_alarm;
	sigaction(SIGALRM, &act, NULL);
	p->on_term = evsignal_new(d->base, SIGTERM, on_stop, d);
	p->on_int = evsignal_new(d->base, SIGINT, on_stop, d);
	p->on_hup = evsignal_new(d->base, SIGHUP, on_reload, d);
	p->deadline = timer_new(d->base, on_deadline, d);
	p->watchdog = notify_watchdog(d->base, p->notify_path);
	if (!p->on_term || !p->on_int || !p->on_hup || !p->deadline)
		return -ENOMEM;
	event_priority_set(p->on_term, 0);
	event_priority_set(p->on_int, 0);
	event_priority_set(p->deadline, 0);
	if (event_add(p->on_term, NULL) || event_add(p->on_int, NULL) || event_add(p->on_hup, NULL))
		return -ENOMEM;
	signals_block(SIG_UNBLOCK);
	return 0;
}

static void loop_close(struct daemon *d)
{
	struct daemon_priv *p = d->priv;

	signals_block(SIG_BLOCK);
	event_drop(p->on_term);
	event_drop(p->on_int);
	event_drop(p->on_hup);
	event_drop(p->deadline);
	event_drop(p->watchdog);
	if (d->base)
		event_base_free(d->base);
}

/* One daemon of a name per state directory: two would share a key and fight over a database. */
static int state_lock(struct daemon *d)
{
	char path[4096];
	int fd, rc = daemon_state_path(d, "lock", path, sizeof path);

	if (rc)
		return rc;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		rc = -errno;
		log_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		close(fd);
		log_error("another %s runs with general.StateDir = %s", d->name, d->state_dir);
		return -EBUSY;
	}
	d->priv->lock_fd = fd;
	return 0;
}

/* The limit that holds now: `want`, or as near to it as the hard limit lets us. */
static rlim_t files_limit_raise(rlim_t want)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim))
		return RLIM_INFINITY;
	rlim_t had = lim.rlim_cur;
	if (had >= want || had == lim.rlim_max)
		return had;
	lim.rlim_cur = lim.rlim_max < want ? lim.rlim_max : want;
	return setrlimit(RLIMIT_NOFILE, &lim) ? had : lim.rlim_cur;
}

void daemon_want_files(size_t count)
{
	rlim_t want = count + FILES_OF_OUR_OWN, have = files_limit_raise(want);

	if (have < want)
		log_warn("%llu files may be open (ulimit -n), the configuration allows for %llu: "
			 "what comes when they are used up is refused",
			 (unsigned long long)have, (unsigned long long)want);
}

static void sandbox_apply(const struct daemon *d)
{
	int rc = d->priv->spec->sandbox && d->cfg->daemon_sandbox ? d->priv->spec->sandbox() : 0;

	if (rc == -EOPNOTSUPP)
		log_info("no filter of system calls: none is made for this machine or build");
	else if (rc)
		log_warn("no filter of system calls: %s", strerror(-rc));
}

static int loop_run(struct daemon *d)
{
	struct daemon_priv *p = d->priv;

	event_set_log_callback(libevent_log);
	files_limit_raise(FILES_WANTED);
	signals_block(SIG_BLOCK);
	d->base = base_open(p->spec->coarse_timers);
	if (!d->base || signals_open(d)) {
		log_error("cannot make an event loop");
		return 1;
	}
	if (p->spec->start(d)) {
		p->exit_code = 1;
	} else if (!p->ending) {
		if (!p->ready_held)
			daemon_ready(d);
		sandbox_apply(d);
		event_base_dispatch(d->base);
	}
	/* `free` may take as long as the rest of the hard limit, whatever ended the loop. */
	if (!p->stopping)
		alarm(HARD_STOP_SECONDS);
	if (p->spec->free)
		p->spec->free(d);
	log_info("%s ended", d->name);
	return p->exit_code;
}

static int daemon_run(struct daemon *d)
{
	struct daemon_priv *p = d->priv;
	int code;

	if (p->mode == MODE_RUN && p->pid_file) {
		code = background_enter(p->pid_file, &p->background_fd);
		if (code) {
			fprintf(stderr, "%s: %s\n", d->name, strerror(-code));
			return 1;
		}
	}
	log_apply(d);
	if (sodium_init() < 0) {
		log_error("libsodium does not start");
		return 1;
	}
	d->state_dir = d->cfg->general_state_dir;
	if (privileges_drop(d) || state_lock(d))
		return 1;
	if (p->mode == MODE_CLEANUP) {
		code = p->spec->cleanup(d) ? 1 : 0;
	} else {
		code = loop_run(d);
		loop_close(d);
	}
	close(p->lock_fd);
	return code;
}

int daemon_main(const struct daemon_spec *spec, int argc, char **argv)
{
	struct daemon_priv priv = {.spec = spec, .lock_fd = -1, .background_fd = -1};
	struct daemon d = {.name = spec->name, .priv = &priv};
	int code;

	priv.source.options = priv.options;
	priv.source.rpc_port = getenv("MESH_RPC_PORT");
	priv.notify_path = notify_take();
	code = arguments_parse(&priv, argc, argv);
	if (code || priv.mode == MODE_DONE)
		return code;
	d.config_path = priv.source.path;
	if (configuration_load(&d, &d.cfg, report_stderr))
		return 1;
	if (priv.mode == MODE_CHECK) {
		puts("configuration ok");
		code = 0;
	} else {
		code = daemon_run(&d);
	}
	config_free(d.cfg);
	return code;
}

int daemon_state_path(const struct daemon *d, const char *suffix, char *out, size_t size)
{
	int n = snprintf(out, size, "%s/%s.%s", d->state_dir, d->name, suffix);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

const char *daemon_host_name(const char *configured, char *out, size_t size)
{
	char host[256] = "";

	if (!*configured && (gethostname(host, sizeof host - 1) || !*host))
		cstr_print(host, sizeof host, "unnamed");
	host[strcspn(host, ".")] = '\0';
	cstr_copy(out, size, *configured ? configured : host);
	return out;
}
