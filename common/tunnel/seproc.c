#include "tunnel/seproc.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cstr.h"
#include "io/keyfile.h"
#include "io/privileges.h"

#define SERVER "/usr/libexec/softether/vpnserver/vpnserver"
#define CLIENT "/usr/libexec/softether/vpnclient/vpnclient"
#define COMMAND "/usr/libexec/softether/vpncmd/vpncmd"
#define SHA0_BYTES 20
#define TRY_US 1000000

/* What se_start's script begins with; nobody else sees it. */
static int try_namespace(void)
{
	static const char *const argv[] = {"unshare", "--mount",  "--pid", "--fork",
					   "mount",   "-n",	  "-t",	   "tmpfs",
					   "meshnet", "/var/lib", NULL};
	char out[16];
	int rc;

	privileges_lend(PRIVILEGE(CAP_SYS_ADMIN));
	rc = helper_output(argv, NULL, out, sizeof out, TRY_US);
	privileges_lend(0);
	return rc;
}

int se_probe(enum tunnel_end end, char *why)
{
	const char *missing = NULL;

	if (end == TUNNEL_GATEWAY && access(COMMAND, X_OK))
		missing = "softether-vpncmd";
	if (access(end == TUNNEL_GATEWAY ? SERVER : CLIENT, X_OK))
		missing = end == TUNNEL_GATEWAY ? "softether-vpnserver" : "softether-vpnclient";
	if (missing) {
		cstr_print(why, TUNNEL_WHY_MAX, "SoftEther is not installed (package %s)", missing);
		return -ENOENT;
	}
	if (try_namespace() == 0)
		return 0;
	cstr_print(why, TUNNEL_WHY_MAX,
		   "no mount namespace can be made for it (the systemd unit says what that takes)");
	return -EPERM;
}

/* ---- programs ---- */

/* Arguments: the configuration; its name there; the program and its arguments. */
static const char script[] = "set -e\n"
			     "exec 3<\"$1\"\n"
			     "name=$2\n"
			     "shift 2\n"
			     "for d in /var/lib /var/log /run; do\n"
			     "	mount -n -t tmpfs -o size=32m,mode=755 meshnet $d\n"
			     "	mkdir -m 700 $d/softether\n"
			     "done\n"
			     "umask 077\n"
			     "cat <&3 >/var/lib/softether/$name\n"
			     /* Who may manage it. */
			     "printf '127.0.0.1\\n' >/var/lib/softether/adminip.txt\n"
			     "exec 3<&-\n"
			     "exec \"$@\"\n";

static int config_path(char out[PATH_MAX], const struct tunnel_env *env, const char *file)
{
	int n = snprintf(out, PATH_MAX, "%s/%s.conf", env->state_dir, file);

	return n < 0 || n >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int se_start(struct helper **out, const struct tunnel_env *env, enum tunnel_end end,
	     const char *file, const char *config, child_exit_cb *on_exit, void *arg)
{
	bool server = end == TUNNEL_GATEWAY;
	char path[PATH_MAX];
	const char *argv[] = {"setpriv",
			      "--pdeathsig",
			      "KILL",
			      "unshare",
			      "--mount",
			      "--pid",
			      "--fork",
			      "--kill-child=KILL",
			      "/bin/sh",
			      "-c",
			      script,
			      "meshnet-softether",
			      path,
			      server ? "vpn_server.config" : "vpn_client.config",
			      server ? SERVER : CLIENT,
			      "execsvc",
			      NULL};
	static const char *const more[] = {"LANG=C", NULL};
	struct helper_spec spec = {.name = "softether",
				   .argv = argv,
				   .env = more,
				   .privileges = PRIVILEGES_NETWORK | PRIVILEGE(CAP_SYS_ADMIN),
				   .on_exit = on_exit,
				   .arg = arg};
	int rc = config_path(path, env, file);

	if (!rc)
		rc = keyfile_put(env->state_dir, file, "conf", config, strlen(config));
	return rc ? rc : helper_start(out, env->base, env->journal, &spec);
}

void se_forget(const struct tunnel_env *env, const char *file)
{
	char path[PATH_MAX];

	if (config_path(path, env, file) == 0)
		unlink(path);
}

int se_command(struct child **out, const struct tunnel_env *env, uint16_t port,
	       const char *password, const char *commands, child_exit_cb *on_exit,
	       child_line_cb *on_line, void *arg)
{
	char path[PATH_MAX + 4] = "/IN:", server[32], input[SE_PASSWORD_TEXT + 1];
	const char *argv[] = {"setpriv", "--pdeathsig", "KILL", COMMAND,
			      server,	 "/SERVER",	path,	NULL};
	struct child_spec spec = {.name = "softether",
				  .argv = argv,
				  .input = input,
				  .on_exit = on_exit,
				  .on_line = on_line,
				  .arg = arg};
	int rc = config_path(path + 4, env, SE_COMMANDS_FILE);

	cstr_print(server, sizeof server, "127.0.0.1:%u", port);
	cstr_print(input, sizeof input, "%s\r", password);
	if (!rc)
		rc = keyfile_put(env->state_dir, SE_COMMANDS_FILE, "conf", commands,
				 strlen(commands));
	if (!rc)
		rc = child_start(out, env->base, &spec);
	sodium_memzero(input, sizeof input);
	return rc;
}

/* ---- passwords ---- */

static uint32_t rotate(uint32_t x, unsigned n)
{
	return x << n | x >> (32 - n);
}

static void sha0_block(uint32_t h[5], const uint8_t *p)
{
	static const uint32_t constant[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (unsigned i = 0; i < 16; i++, p += 4)
		w[i] = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
	/* SHA-1 rotates these by one: the only difference. */
	for (unsigned i = 16; i < 80; i++)
		w[i] = w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16];
	for (unsigned i = 0; i < 80; i++) {
		uint32_t f = i < 20		 ? (b & c) | (~b & d)
			     : i < 40 || i >= 60 ? b ^ c ^ d
						 : (b & c) | (b & d) | (c & d);
		uint32_t t = rotate(a, 5) + f + e + constant[i / 20] + w[i];
		e = d;
		d = c;
		c = rotate(b, 30);
		b = a;
		a = t;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

/* Of at most 119 bytes: two blocks. */
static void sha0(const char *text, size_t len, uint8_t out[SHA0_BYTES])
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	uint8_t block[128] = {0};
	size_t all = len < 56 ? 64 : 128;

	memcpy(block, text, len);
	block[len] = 0x80;
	block[all - 2] = (uint8_t)(len * 8 >> 8);
	block[all - 1] = (uint8_t)(len * 8);
	sha0_block(h, block);
	if (all > 64)
		sha0_block(h, block + 64);
	for (unsigned i = 0; i < SHA0_BYTES; i++)
		out[i] = (uint8_t)(h[i / 4] >> (24 - i % 4 * 8));
	sodium_memzero(block, sizeof block);
}

void se_password_hash(const char *password, const char *user, char out[SE_HASH_TEXT])
{
	uint8_t hash[SHA0_BYTES];
	char text[100];
	int n = snprintf(text, sizeof text, "%s%s", password, user);

	if (n >= (int)sizeof text)
		n = sizeof text - 1;
	for (int i = (int)strlen(password); i < n; i++)
		text[i] = (char)toupper((unsigned char)text[i]);
	sha0(text, (size_t)n, hash);
	sodium_bin2base64(out, SE_HASH_TEXT, hash, sizeof hash, sodium_base64_VARIANT_ORIGINAL);
	sodium_memzero(text, sizeof text);
}

/* ---- configurations ---- */

void se_pem_body(const char *pem, char *out, size_t size)
{
	const char *at = strchr(pem, '\n');
	size_t n = 0;

	for (; at && *at && *at != '-'; at++)
		if (*at != '\n' && n + 1 < size)
			out[n++] = *at;
	out[n + 1 < size ? n : 0] = '\0';
}

void se_add(struct se_text *t, const char *format, ...)
{
	size_t at = t->len < t->size ? t->len : t->size - 1;
	va_list args;

	va_start(args, format);
	t->len += (size_t)vsnprintf(t->out + at, t->size - at, format, args);
	va_end(args);
}

int se_server_config(const struct se_server *s, char *out, size_t size)
{
	char cert[SE_CERTIFICATE_MAX], key[SE_CERTIFICATE_MAX], hash[SE_HASH_TEXT];
	struct se_text t = {out, size, 0};

	se_pem_body(s->cert->certificate, cert, sizeof cert);
	se_pem_body(s->cert->key, key, sizeof key);
	se_password_hash(s->password, "", hash);
	se_add(&t,
	       "declare root\n{\n"
	       "declare DDnsClient\n{\nbool Disabled true\n}\n"
	       "declare ListenerList\n{\ndeclare Listener0\n{\n"
	       "bool Enabled true\nuint Port %u\n}\n}\n",
	       s->port);
	se_add(&t,
	       "declare ServerConfiguration\n{\n"
	       "string ListenIP ::\n"
	       "byte HashedPassword %s\nbyte ServerCert %s\nbyte ServerKey %s\n",
	       hash, cert, key);
	se_add(&t, "bool Tls_Disable1_0 true\nbool Tls_Disable1_1 true\n"
		   "bool UseKeepConnect false\n"
		   "bool DisableNatTraversal true\n"
		   "bool DisableJsonRpcWebApi true\n"
		   "bool DisableGetHostNameWhenAcceptTcp true\n"
		   "bool NoLinuxArpFilter true\n"
		   "bool NoHighPriorityProcess true\n"
		   "bool DisableCoreDumpOnUnix true\n"
		   "bool DontBackupConfig true\n"
		   "uint AutoSaveConfigSpan 86400\n"
		   "uint64 AutoDeleteCheckDiskFreeSpaceMin 1048576\n"
		   "uint64 LoggerMaxLogSize 1048576\n"
		   "declare Proto\n{\n"
		   "declare OpenVPN\n{\nbool Enabled false\n}\n"
		   "declare SSTP\n{\nbool Enabled false\n}\n"
		   "}\n}\n"
		   "declare VirtualHUB\n{\n}\n}\n");
	sodium_memzero(key, sizeof key);
	return t.len < size ? 0 : -ENAMETOOLONG;
}

int se_client_config(const struct se_account *c, char *out, size_t size)
{
	char ip[NET_ADDR_TEXT], user[SE_HASH_TEXT], control[SE_HASH_TEXT];
	struct se_text t = {out, size, 0};

	se_password_hash(c->password, SE_USER, user);
	se_password_hash(c->control, "", control);
	se_add(&t, "declare root\n{\nbyte EncryptedPassword %s\nbool PasswordRemoteOnly false\n",
	       control);
	se_add(&t,
	       "declare Config\n{\nbool AllowRemoteConfig false\nbool UseKeepConnect false\n}\n");
	se_add(&t,
	       "declare AccountDatabase\n{\ndeclare Account0\n{\n"
	       "bool StartupAccount true\nbool CheckServerCert true\nbool RetryOnServerCert false\n"
	       "byte ServerCert %s\n",
	       c->certificate);
	se_add(&t,
	       "declare ClientAuth\n{\n"
	       "uint AuthType 1\nstring Username %s\nbyte HashedPassword %s\n}\n",
	       SE_USER, user);
	/* "/tcp": nobody is asked for a way through address translation. */
	se_add(&t,
	       "declare ClientOption\n{\nstring AccountName gateway\n"
	       "string Hostname %s/tcp\nuint Port %u\nuint PortUDP 0\n"
	       "string HubName %s\nstring DeviceName %s\n",
	       net_addr_ip_text(&c->server, ip), c->server.port, c->hub, c->device);
	se_add(&t,
	       "bool UseEncrypt true\nbool UseCompress false\nbool HalfConnection false\n"
	       "uint MaxConnection 1\nuint AdditionalConnectionInterval 1\n"
	       "uint NumRetry 4294967295\nuint RetryInterval 5\n"
	       "bool NoRoutingTracking true\nbool NoUdpAcceleration true\nbool DisableQoS true\n"
	       "bool HideStatusWindow true\nbool HideNicInfoWindow true\n}\n}\n}\n");
	se_add(&t,
	       "declare UnixVLan\n{\ndeclare %s\n{\nbool Enabled true\n"
	       "string MacAddress %02X-%02X-%02X-%02X-%02X-%02X\n}\n}\n}\n",
	       c->device, c->mac[0], c->mac[1], c->mac[2], c->mac[3], c->mac[4], c->mac[5]);
	return t.len < size ? 0 : -ENAMETOOLONG;
}
