/*
 * SoftEther's programs, run without a trace on the host.  Their files have fixed places (/var/lib,
 * /var/log and /run/softether): each program gets a mount namespace in which /var/lib, /var/log and
 * /run are empty and in memory, with nothing but the configuration that we wrote, and a process
 * namespace that ends with us, also after a kill of ours.  So nothing is kept, several run side by
 * side, and a server that was set up by hand is not touched.
 */
#ifndef TUNNEL_SEPROC_H
#define TUNNEL_SEPROC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "io/helper.h"
#include "io/selfsigned.h"
#include "tunnel/tunnel.h"

#define SE_PASSWORD_TEXT 49 /* 24 bytes in hex */
#define SE_HUB_TEXT 12	    /* "m" and 5 bytes in hex: with "tap_" before it an interface's name */
#define SE_CONFIG_MAX 8192
#define SE_CERTIFICATE_MAX 1024 /* base64 of DER */
#define SE_USER "lease"		/* of every hub */

/* 0; -ENOENT and what is not installed; -EPERM: its programs cannot have a place of their own. */
int se_probe(enum tunnel_end end, char *why);

/* Starts the server or the client; `file` is what its configuration is called in the state
 * directory until se_forget. */
int se_start(struct helper **out, const struct tunnel_env *env, enum tunnel_end end,
	     const char *file, const char *config, child_exit_cb *on_exit, void *arg);
void se_forget(const struct tunnel_env *env, const char *file);

#define SE_COMMANDS_FILE "softether-commands"
/* vpncmd with these commands at the server on this port of the loopback interface; the password is
 * not an argument, which others could see.  SE_COMMANDS_FILE is to be forgotten at its end. */
int se_command(struct child **out, const struct tunnel_env *env, uint16_t port,
	       const char *password, const char *commands, child_exit_cb *on_exit,
	       child_line_cb *on_line, void *arg);

/* Text that is put together; `len` past `size` when there was no room. */
struct se_text {
	char *out;
	size_t size, len;
};
__attribute__((format(printf, 2, 3))) void se_add(struct se_text *t, const char *format, ...);

/* Base64 of a PEM block's DER; "" when it is too long. */
void se_pem_body(const char *pem, char *out, size_t size);

/* What SoftEther keeps of a password, SHA-0 in base64: of an administrator (`user` is ""), or of a
 * user (its name in capitals, hashed after the password). */
#define SE_HASH_TEXT 29
void se_password_hash(const char *password, const char *user, char out[SE_HASH_TEXT]);

struct se_server {
	uint16_t port;
	const char *password; /* the administrator's */
	const struct selfsigned *cert;
};
/* Nothing of it calls home, answers over other protocols, or changes the host's settings.
 * 0, -ENAMETOOLONG. */
int se_server_config(const struct se_server *s, char *out, size_t size);

struct se_account {
	struct net_addr server;
	const char *certificate; /* the only one that the server may have */
	const char *hub, *password;
	const char *device; /* its interface is called "vpn_" and this */
	uint8_t mac[6];
	const char
		*control; /* password of its control port, which every user of the host reaches */
};
int se_client_config(const struct se_account *c, char *out, size_t size);
#endif
