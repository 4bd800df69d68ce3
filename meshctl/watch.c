/* --watch, and Ctrl-C. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "meshctl/command.h"
#include "meshctl/run.h"

static volatile sig_atomic_t interrupted;
static struct sigaction before;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = 1;
}

/* Without SA_RESTART: what waits is woken up. */
void ctl_interrupt_begin(void)
{
	struct sigaction act = {.sa_handler = on_interrupt};

	interrupted = 0;
	sigaction(SIGINT, &act, &before);
}

void ctl_interrupt_end(void)
{
	sigaction(SIGINT, &before, NULL);
}

bool ctl_interrupted(void)
{
	return interrupted;
}

bool ctl_sleep_us(uint64_t us)
{
	struct timespec left = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};

	while (!interrupted && nanosleep(&left, &left) && errno == EINTR)
		;
	return !interrupted;
}

/* Runs it into memory, so that a terminal is redrawn at once; text to free, NULL when out of
 * memory.  What it says of errors stands there too. */
static char *run_to_text(const struct ctl_args *a, const struct ctl_command *c,
			 enum ctl_exit *status)
{
	char *text = NULL;
	size_t len;
	FILE *f = open_memstream(&text, &len);

	if (!f)
		return NULL;
	*status = ctl_run_once(a, c, f, f);
	if (fclose(f)) {
		free(text);
		return NULL;
	}
	return text;
}

static unsigned screen_rows(FILE *out)
{
	struct winsize size;

	return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_row > 1 ? size.ws_row : 24;
}

/* Over what stands there; lines that do not fit are left out, what was longer is wiped. */
static void redraw(const struct ctl_args *a, const struct ctl_command *c, const char *text,
		   FILE *out)
{
	unsigned rows = screen_rows(out) - 1;
	char when[16] = "";
	time_t now = time(NULL);
	struct tm tm;

	if (localtime_r(&now, &tm))
		strftime(when, sizeof when, "%H:%M:%S", &tm);
	fprintf(out, "\033[H%s, every %.3g s, %s (Ctrl-C ends)\033[K\n", c->name,
		(double)a->watch_us / 1e6, when);
	for (unsigned row = 1; *text && row < rows; row++) {
		size_t len = strcspn(text, "\n");
		fprintf(out, "%.*s\033[K\n", (int)len, text);
		text += len + (text[len] == '\n');
	}
	fprintf(out, "\033[J");
}

enum ctl_exit ctl_watch(const struct ctl_args *a, const struct ctl_command *c, FILE *out, FILE *err)
{
	bool terminal = isatty(fileno(out)) && !a->json;
	enum ctl_exit status = CTL_OK;

	ctl_interrupt_begin();
	for (bool first = true; !ctl_interrupted(); first = false) {
		char *text = run_to_text(a, c, &status);
		bool failed = first && status != CTL_OK && !ctl_interrupted();
		if (!text || failed) {
			fprintf(err, "%s", text ? text : "meshctl: out of memory\n");
			free(text);
			ctl_interrupt_end();
			return text ? status : CTL_REFUSED;
		}
		if (terminal)
			fprintf(out, "%s", first ? "\033[2J" : "");
		if (terminal)
			redraw(a, c, text, out);
		else if (!ctl_interrupted() || status == CTL_OK)
			fprintf(out, "%s%s", first || a->json ? "" : "\n", text);
		free(text);
		/* Whoever read it has gone. */
		if (fflush(out) || !ctl_sleep_us(a->watch_us))
			break;
	}
	ctl_interrupt_end();
	return CTL_OK;
}
