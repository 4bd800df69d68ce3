/*
 * A daemon in the background, for init scripts: the command returns when the daemon is ready, or
 * has failed, with its exit code; what it has to say until then goes to the terminal.  The process
 * id is written by the process that waits, which still has the rights it was started with: the
 * daemon itself may have none to write in /run, and nobody else can name another process there.
 */
#ifndef IO_BACKGROUND_H
#define IO_BACKGROUND_H

#define BACKGROUND_SECONDS_MAX 60 /* to be ready; then it is ended */

/* In the daemon: 0, and *fd is for background_ready().  In the process that was started: does not
 * return but exits.  -errno: cannot fork. */
int background_enter(const char *pid_file, int *fd);
/* Ready: the terminal is let go.  Closes `fd`. */
void background_ready(int fd);
#endif
