# Meshnet.  `make help` lists the targets.
#   SAN=1    ASan and UBSan (in its own build directory)
#   BUILD=D  another build directory;  CC=clang  another compiler
#   CRYPTO=libcrypto|sodium  whose ChaCha20-Poly1305 seals bulk data (same bytes; own BUILD each);
#                            libcrypto is loaded at run time, libsodium takes over where it is missing
#   CROSS=T  for another CPU, by its compiler T-gcc (aarch64-linux-gnu, s390x-linux-gnu, ...) into
#            build/T; its libraries are unpacked into build/cross/T, or SYSROOT=D has them
ifneq ($(CROSS),)
TOOL     := $(CROSS)-
BUILD    ?= build/$(CROSS)
ifndef SYSROOT
SYSROOT  := build/cross/$(CROSS)
SYSROOT_WHOLE := $(SYSROOT)/.whole
endif
ROOTFLAGS := --sysroot=$(abspath $(SYSROOT))
export PKG_CONFIG_SYSROOT_DIR := $(abspath $(SYSROOT))
export PKG_CONFIG_LIBDIR := $(abspath $(SYSROOT))/usr/lib/$(CROSS)/pkgconfig:$(abspath $(SYSROOT))/usr/lib/pkgconfig
endif
CC      ?= gcc
ifeq ($(origin CC),default)
CC      := $(TOOL)gcc
endif
ifeq ($(origin AR),default)
AR      := $(TOOL)ar
endif
ifeq ($(origin LD),default)
LD      := $(TOOL)ld
endif
OBJCOPY ?= $(TOOL)objcopy
SAN     ?= 0
FUZZ    ?= 0
PREFIX  ?= /usr/local
DESTDIR ?=
SYSCONFDIR  ?= /etc
INITDIR     ?= $(SYSCONFDIR)/init.d
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
SYSCTLDIR   ?= $(PREFIX)/lib/sysctl.d
ifeq ($(FUZZ),1)
# libFuzzer is clang's; the library is instrumented with it too.
CC       = clang
BUILD   ?= build/fuzz
SANFLAGS := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT     ?= -O1 -g1
else ifeq ($(SAN),1)
BUILD   ?= build/san
SANFLAGS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT     ?= -O1 -g1
else
BUILD   ?= build
OPT     ?= -O2 -g
# What Debian wants of a program that listens; fortified functions need the optimizer.
HARDEN    = $(if $(filter -O0,$(OPT)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
HARDEN_LD = -Wl,-z,relro,-z,now
endif
VERSION := 0.1.0
# `try` is yes when this compiler takes a program with these flags without a word; what it may lack is
# asked so.
try = $(shell [ "`printf '$(1)' | $(CC) $(ROOTFLAGS) -Werror $(2) -x c -o /dev/null - 2>&1; echo $$?`" = 0 ] && echo yes)
# Cheap routers have little flash: a program has no function that it does not call, and no tables to
# unwind its stack with (debuggers read .debug_frame).  Relocations are packed where ld can and the
# libc reads it: glibc does since 2.36; others cannot be asked (EXTRA_LDFLAGS).
# Frame pointers are for unwinding too, and gcc keeps them on aarch64 only.
# -fno-plt is worth it where the linker makes a direct call again of one to our own function, which
# is on x86: elsewhere each would stay a load and a jump.
PLT_ASK  := \043if !defined __x86_64__ && !defined __i386__\n\043error\n\043endif\nint x;\n
ifeq ($(SANFLAGS),)
SMALL    := -ffunction-sections -fdata-sections -fno-asynchronous-unwind-tables -fno-unwind-tables \
            $(if $(call try,$(PLT_ASK),-c),-fno-plt) -fomit-frame-pointer
# Nobody looks for a function of ours in a program: on MIPS each would have a name to be found by.
SMALL_LD  = -Wl,--gc-sections -Wl,-z,noseparate-code -Wl,--exclude-libs,ALL $(PACK)
# Asked at the first link, when the libraries of another CPU are there.
PACK      = $(eval PACK := $(if $(call try,$(PACK_ASK),$(PACK_LD)),$(PACK_LD)))$(PACK)
PACK_ASK := \043include <features.h>\n\043if !__GLIBC_PREREQ(2, 36)\n\043error\n\043endif\nint main(void) { return 0; }\n
PACK_LD  := -Wl,-z,pack-relative-relocs
endif
# What carries no packets and searches no graph is made for size.
HOT  := $(addprefix common/tunnel/,mesh% tunpump%) $(addprefix common/io/,chan.c chan_i% clock% tun%)
COLD := $(filter-out $(HOT),$(wildcard common/io/*.c common/tunnel/*.c)) $(wildcard common/scan/*.c \
        gatewayd/*.c subscriberd/*.c apptracker/*.c meshctl/*.c nodemanager/api*.c nodemanager/shell*.c \
        nodemanager/store*.c common/core/noise*.c common/core/channel.c common/core/*proof.c) \
        $(addprefix common/base/,addr.c bencode.c cstr.c log.c policy.c prefix.c sid.c) \
        $(addprefix common/wire/,socks5.c socksaddr.c) $(addprefix apps/libmeshapp/,meshapp.c meshapp_list.c)
# What carries packets by a system call each gains nothing from code that begins at round addresses.
WARM := $(filter %.c,$(wildcard $(subst %,*,$(HOT)) apps/libmeshapp/meshconn.c apps/libmeshapp/meshtun.c)) \
        common/wire/msg.c common/wire/vnethdr.c common/core/tunflow.c common/core/tunroute.c
UNALIGNED := -falign-functions=1 -falign-jumps=1 -falign-loops=1
OPT_COLD  := $(if $(call try,int x;,-Oz -c),-Oz,-Os)
OPT_WARM  := $(if $(call try,int x;,$(UNALIGNED) -c),$(UNALIGNED))
# aarch64 has a model for programs smaller than 1 MB, where an address is one instruction and not two; the
# linker finds out if one is larger.  Not for the library for others, which may go anywhere.
TINY_ASK  := \043ifndef __aarch64__\n\043error\n\043endif\nint x;\n
MODEL     := $(if $(SANFLAGS),,$(if $(call try,$(TINY_ASK),-mcmodel=tiny -c),-mcmodel=tiny))
# In the two large daemons what is made for size is compiled once more as one piece, when they are linked.
# The objects are ordinary ones too (fat): with them all else is linked, as fast as without.
LTO_ASK  := \043ifdef __clang__\n\043error\n\043endif\nint x;\n
LTO      := $(if $(SANFLAGS),,$(if $(call try,$(LTO_ASK),-flto -ffat-lto-objects -c),-flto -ffat-lto-objects))
NO_LTO   := $(if $(LTO),-fno-lto)
LTO_LD   := $(if $(LTO),-flto -flto-partition=one -fipa-pta $(SMALL) $(MODEL))
LDFLAGS_gatewayd    := $(LTO_LD)
LDFLAGS_subscriberd := $(LTO_LD)

CRYPTO  ?= libcrypto
ifeq ($(CRYPTO),libcrypto)
CRYPTO_FLAGS := -DMESHNET_LIBCRYPTO
else ifneq ($(CRYPTO),sodium)
$(error CRYPTO=$(CRYPTO): wanted libcrypto or sodium)
endif
PKGS    := libevent libevent_pthreads json-c libsodium sqlite3 libmnl libnftables libcrypto
WARN    := -Wall -Wextra -Wshadow -Wconversion -Werror
# Files and inode numbers have 64 bits on every CPU (time_t is what the libraries were built with).
CFLAGS  := $(ROOTFLAGS) -std=c17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DMESHNET_VERSION='"$(VERSION)"' \
           $(OPT) $(WARN) $(SANFLAGS) $(HARDEN) -fstack-protector-strong -fno-math-errno $(SMALL) \
           -Icommon -Iapps -I. $(CRYPTO_FLAGS) $(EXTRA_CFLAGS)
# Every program maps what it uses and no more.  libcrypto is loaded when it is first needed
# (core/seal.c).  Square roots are one instruction, so that a node needs no libm.
LDFLAGS  = $(ROOTFLAGS) $(NO_LTO) $(SMALL_LD) -Wl,--as-needed $(HARDEN_LD) $(SANFLAGS) $(EXTRA_LDFLAGS)
LDLIBS  := -levent_extra -levent_core -ljson-c -lsodium -lsqlite3 -lmnl -lnftables -linih -lm

# What everything in BUILD is made with: written anew when it is another, and objects are older then.
FLAGS_FILE := $(BUILD)/flags
$(FLAGS_FILE): export FLAGS_USED = $(CC) $(CFLAGS) $(OPT_COLD) $(LTO) $(OPT_WARM) $(MODEL) $(LDFLAGS) $(LTO_LD) $(LDLIBS)
$(FLAGS_FILE): FORCE
	@mkdir -p $(@D)
	@{ $(CC) --version | head -n 1; printf '%s\n' "$$FLAGS_USED"; } >$@.$$$$ && \
		if cmp -s $@.$$$$ $@; then rm $@.$$$$; else mv $@.$$$$ $@; fi
FORCE:
.PHONY: FORCE

BIN      := $(BUILD)/bin
DAEMONS  := nodemanager node apptracker gatewayd subscriberd
APPS     := socks-client socks-server vpn-client vpn-server echo
# A daemon is linked from its folder; a program under apps/ from apps/<name with _>/.
PROGRAMS := $(foreach d,$(DAEMONS) meshctl,$(if $(wildcard $(d)/main.c),$(d))) \
            $(foreach a,$(APPS),$(if $(wildcard apps/$(subst -,_,$(a))/main.c),$(a)))

COMMON_SRC := $(wildcard common/*/*.c) $(wildcard apps/libmeshapp/*.c)
COMMON_OBJ := $(COMMON_SRC:%.c=$(BUILD)/obj/%.o)
LIBMESHNET := $(BUILD)/libmeshnet.a
# Everything of a program but its main, so that tests link the same objects.
part_src = $(filter-out %/main.c,$(wildcard $(1)/*.c))
part_obj = $(patsubst %.c,$(BUILD)/obj/%.o,$(call part_src,$(1)))
PART_DIRS := $(DAEMONS) meshctl apps/echo apps/socks apps/vpn
PART_OBJ  := $(foreach d,$(PART_DIRS),$(call part_obj,$(d)))
LIBPARTS  := $(BUILD)/libparts.a

UNIT_SRC := $(wildcard tests/unit/test_*.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(BUILD)/unit/%)
SIM_SRC  := $(wildcard tests/sim/*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(BUILD)/fuzz/%)

.PHONY: all help deps
.DEFAULT_GOAL := all
all: deps
	@$(MAKE) --no-print-directory programs library
programs: $(PROGRAMS:%=$(BIN)/%)
ifneq ($(SANFLAGS),)
library: # shared and sanitized do not mix; the unit tests have its sources anyway
else
library: $(BUILD)/libmeshapp.a $(BUILD)/libmeshapp.so $(BUILD)/meshapp-uninstalled.pc
endif
.PHONY: programs library

help:
	@echo "make            build the daemons and apps into $(BIN)"
	@echo "make demo       show a mesh carrying a subscriber to the Internet (root; KEEP=1 keeps it)"
	@echo "make test       all tests (root for the lab; SUITES='unit lab' for some)"
	@echo "make test-vm    methods that need another kernel than this one, in QEMU (two minutes)"
	@echo "make test-packaging  packages, init scripts, units, containers, other CPUs (root)"
	@echo "make test-all   these three (10 minutes on two cores)"
	@echo "make CROSS=aarch64-linux-gnu  build for another CPU (s390x, arm, mipsel; make test-cross)"
	@echo "make sim        the overlay on a virtual clock (SEEDS=1000; make test runs 40)"
	@echo "make fuzz       fuzz every parser (SECONDS_EACH=60)"
	@echo "make bench      measure; results in build/bench/*.json (root; NAMES='chain echo' for some)"
	@echo "make lint       layers, sizes, clang-tidy, cppcheck"
	@echo "make install    DESTDIR and PREFIX are honoured; make uninstall takes it away again"
	@echo "make deb        Debian packages in $(BUILD)/deb, built in $(BUILD)/package"

# Installs what is missing from Debian; with everything there it costs one dpkg-query.
deps:
	@etc/deps.sh $(if $(CROSS),cross=$(CROSS),build)
$(SYSROOT_WHOLE):
	@etc/sysroot.sh $(CROSS) $(SYSROOT)

ifneq ($(findstring -O2,$(OPT)),)
$(COLD:%.c=$(BUILD)/obj/%.o): OPT_FILE := $(OPT_COLD) $(LTO) $(MODEL)
$(WARM:%.c=$(BUILD)/obj/%.o): OPT_FILE := $(OPT_WARM) $(MODEL)
endif
$(BUILD)/obj/%.o: %.c $(FLAGS_FILE) | $(SYSROOT_WHOLE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(OPT_FILE) -MMD -MP -c $< -o $@

$(LIBMESHNET): $(COMMON_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^
$(LIBPARTS): $(PART_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

define program
$(BIN)/$(1): $(BUILD)/obj/$(2)/main.o $(call part_obj,$(2)) $(call part_obj,$(3)) $(LIBMESHNET)
	@mkdir -p $$(@D)
	$(CC) $$(LDFLAGS) $$(LDFLAGS_$(1)) $$^ $$(LDLIBS) $$(LDLIBS_$(1)) -o $$@
endef
# The prompt's editor; no daemon loads it.
LDLIBS_meshctl := -ledit
$(foreach d,$(DAEMONS) meshctl,$(eval $(call program,$(d),$(d),)))
$(eval $(call program,echo,apps/echo,))
$(eval $(call program,vpn-client,apps/vpn_client,apps/vpn))
$(eval $(call program,vpn-server,apps/vpn_server,apps/vpn))
$(eval $(call program,socks-client,apps/socks_client,apps/socks))
$(eval $(call program,socks-server,apps/socks_server,apps/socks))

# --- libmeshapp for programs outside this tree -------------------------------------------------
# Nothing but the functions of its public header can be seen from outside, in either form.
SO_VERSION  := 0
SO_FILE     := libmeshapp.so.$(SO_VERSION)
LIBAPP_DIR  := apps/libmeshapp
LIBAPP_SRC  := $(wildcard $(LIBAPP_DIR)/*.c) $(wildcard common/base/*.c) \
               $(filter-out %/chan_listener.c,$(wildcard common/io/chan*.c)) \
               common/io/clock.c common/io/hostlookup.c common/io/sockaddr.c common/io/keyfile.c common/io/timer.c \
               common/wire/frame.c common/wire/msg.c \
               common/core/channel.c common/core/noise.c common/core/pkt.c
LIBAPP_OBJ  := $(LIBAPP_SRC:%.c=$(BUILD)/pic/%.o)
LIBAPP_LIBS := -levent_extra -levent_core -lsodium
$(BUILD)/pic/%.o: %.c $(FLAGS_FILE) | $(SYSROOT_WHOLE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -fPIC -fno-semantic-interposition -MMD -MP -c $< -o $@
$(BUILD)/$(SO_FILE): $(LIBAPP_OBJ) $(LIBAPP_DIR)/meshapp.map
	$(CC) -shared -Wl,-soname,$(SO_FILE) -Wl,--version-script=$(LIBAPP_DIR)/meshapp.map -Wl,-z,defs \
		$(LDFLAGS) $(LIBAPP_OBJ) $(LIBAPP_LIBS) -o $@
$(BUILD)/libmeshapp.so: $(BUILD)/$(SO_FILE)
	ln -sf $(SO_FILE) $@
$(BUILD)/libmeshapp.a: $(LIBAPP_OBJ) $(LIBAPP_DIR)/meshapp.map
	@rm -f $@
	sed -n 's/^\t\(mesh[a-z_]*\);$$/\1/p' $(LIBAPP_DIR)/meshapp.map >$(BUILD)/pic/public
	$(LD) -r $(LIBAPP_OBJ) -o $(BUILD)/pic/meshapp.o
	$(OBJCOPY) --keep-global-symbols=$(BUILD)/pic/public $(BUILD)/pic/meshapp.o
	$(AR) rcs $@ $(BUILD)/pic/meshapp.o
# $(call write_pc,PREFIX,INCLUDEDIR,LIBDIR,FILE)
write_pc = sed -e 's|@PREFIX@|$(1)|' -e 's|@INCLUDEDIR@|$(2)|' -e 's|@LIBDIR@|$(3)|' \
	-e 's|@VERSION@|$(VERSION)|' $(LIBAPP_DIR)/meshapp.pc.in >$(4)
# pkg-config prefers it where PKG_CONFIG_PATH has the build directory.
$(BUILD)/meshapp-uninstalled.pc: $(LIBAPP_DIR)/meshapp.pc.in
	@mkdir -p $(@D)
	$(call write_pc,$(abspath $(BUILD)),$(abspath $(LIBAPP_DIR)/include),$(abspath $(BUILD)),$@)

# What is tested is built as it is shipped; the tests themselves need no optimiser, which takes
# most of their build.  These two compute by themselves.
UNIT_OPT := -O0
$(BUILD)/unit/test_playout $(BUILD)/unit/test_sendstate: UNIT_OPT := -O1
$(BUILD)/unit/%: tests/unit/%.c $(LIBPARTS) $(LIBMESHNET)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(UNIT_OPT) -MMD -MP -Itests $(LDFLAGS) $< $(LIBPARTS) $(LIBMESHNET) $(LDLIBS) \
		$(LDLIBS_meshctl) -lcmocka -o $@
$(BUILD)/sim: $(SIM_SRC) $(wildcard tests/sim/*.h) $(LIBPARTS) $(LIBMESHNET)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -Itests $(LDFLAGS) $(SIM_SRC) $(LIBPARTS) $(LIBMESHNET) $(LDLIBS) -o $@

# Only with FUZZ=1.
$(BUILD)/fuzz/%: tests/fuzz/%.c $(LIBPARTS) $(LIBMESHNET)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP -Itests $(LDFLAGS) -fsanitize=fuzzer $< $(LIBPARTS) $(LIBMESHNET) \
		$(LDLIBS) -o $@

# Programs of tests and benchmarks; nothing of them is installed.
BENCH_BIN := $(BUILD)/bench-bin
$(BENCH_BIN)/emulator: tests/bench/emulator.c tests/bench/impair.c tests/bench/impair.h $(FLAGS_FILE)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) $(filter %.c,$^) -o $@
$(BENCH_BIN)/%: tests/bench/%.c $(LIBMESHNET)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) $< $(LIBMESHNET) $(LDLIBS) -o $@
# The lab's own programs lie beside them.
$(BENCH_BIN)/hostile: tests/lab/hostile.c $(LIBMESHNET)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -MMD -MP $(LDFLAGS) $< $(LIBMESHNET) $(LDLIBS) -o $@
# igraph is what find-route is compared with; only this program needs it.
$(BENCH_BIN)/findroute: tests/bench/findroute.c $(BUILD)/obj/common/io/clock.o \
		$(addprefix $(BUILD)/obj/nodemanager/,graph.o graph_find.o graph_mark.o disjoint.o)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $$(pkg-config --cflags igraph | sed 's/-I/-isystem /g') -MMD -MP $(LDFLAGS) \
		$^ $$(pkg-config --libs igraph) -lm -o $@
bench-bins: $(addprefix $(BENCH_BIN)/,emulator bare handshakes crypto flood findroute rpcload socksload swarm)

unit-bins: $(UNIT_BIN)
sim-bin: $(if $(SIM_SRC),$(BUILD)/sim)
fuzz-bins: $(FUZZ_BIN)
.PHONY: unit-bins sim-bin fuzz-bins bench-bins

# --- what is run rather than built -----------------------------------------------------------
SECONDS_EACH ?= 60
SEEDS        ?= 1000
KEEP         ?= 0
PYTHON       := /usr/bin/python3
JOBS         := $(shell nproc 2>/dev/null || echo 2)
export BUILD SAN

test:
	@etc/deps.sh test
	@$(PYTHON) tests/run $(SUITES)

test-vm:
	@etc/deps.sh vm
	@$(PYTHON) tests/run vm

test-packaging:
	@etc/deps.sh packaging
	@$(PYTHON) tests/run packaging

# What these three run, beside each other, with one last line.
test-all:
	@etc/deps.sh test vm packaging
	@$(PYTHON) tests/run all

# Every CPU that we mean to work, and the unit tests that are slow under emulation (half an hour).
CROSS_TARGETS ?= s390x-linux-gnu aarch64-linux-gnu arm-linux-gnueabihf mipsel-linux-gnu
test-cross:
	@etc/deps.sh packaging $(CROSS_TARGETS:%=cross=%)
	@CROSS_ALL=1 CROSS_TARGETS="$(CROSS_TARGETS)" $(PYTHON) -m pytest -q -p no:cacheprovider -rs --tb=short \
		tests/packaging/test_cross.py tests/packaging/test_cross_mesh.py

demo:
	@etc/deps.sh demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) programs
	@KEEP=$(KEEP) $(PYTHON) tests/demo/demo.py

lint:
	@etc/deps.sh lint
	@tests/lint/run

sim:
	@etc/deps.sh build
	@$(MAKE) --no-print-directory -s -j$(JOBS) sim-bin
	@$(BUILD)/sim --seeds $(SEEDS)

fuzz:
	@etc/deps.sh fuzz
	@SECONDS_EACH=$(SECONDS_EACH) $(PYTHON) tests/run fuzz

bench:
	@etc/deps.sh bench
	@$(MAKE) --no-print-directory -s -j$(JOBS) programs bench-bins
	@$(PYTHON) tests/bench/run $(NAMES)

# --- what stands where when it is installed -----------------------------------------------------
LIBDIR  ?= $(PREFIX)/lib
MANDIR  ?= $(PREFIX)/share/man
DOCDIR  ?= $(PREFIX)/share/doc/meshnet
ZSHDIR  ?= $(PREFIX)/share/zsh/site-functions
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
# The prefix `meshnet-` keeps clear of Node.js, which owns the name `node`.
PREFIXED := $(addprefix meshnet-,$(filter-out meshctl,$(PROGRAMS)))
PAGES    := $(notdir $(wildcard docs/man/*.[1-8])) meshnet.cfg.5
DOCS     := README.md LICENSE common/PROTOCOL.md etc/meshnet-example.cfg $(wildcard docs/*.md) \
            docs/example-app.c
# Pages name the folder that they are installed with.
page_docdir = sed 's|/usr/local/share/doc/meshnet|$(DOCDIR)|'
section_of  = $(subst .,,$(suffix $(1)))

define install_library
install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(MANDIR)/man3
	install -m 644 $(LIBAPP_DIR)/include/meshapp.h $(DESTDIR)$(PREFIX)/include
	install -m 644 $(BUILD)/libmeshapp.a $(BUILD)/$(SO_FILE) $(DESTDIR)$(LIBDIR)
	ln -sf $(SO_FILE) $(DESTDIR)$(LIBDIR)/libmeshapp.so
	$(page_docdir) $(LIBAPP_DIR)/libmeshapp.3 >$(DESTDIR)$(MANDIR)/man3/libmeshapp.3
	$(call write_pc,$(PREFIX),$${prefix}/include,$(LIBDIR:$(PREFIX)/%=$${prefix}/%),$(DESTDIR)$(LIBDIR)/pkgconfig/meshapp.pc)
	chmod 644 $(DESTDIR)$(MANDIR)/man3/libmeshapp.3 $(DESTDIR)$(LIBDIR)/pkgconfig/meshapp.pc
	-$(if $(DESTDIR),,ldconfig 2>/dev/null)
endef

# --- init systems -------------------------------------------------------------------------------
# $(BUILD)/init/: LSB scripts, of one template, and units with @PREFIX@ filled in.
INIT_DIR := $(BUILD)/init
UNITS    := $(notdir $(wildcard etc/systemd/*.service))
init_summary_nodemanager := registers nodes, makes links between them, finds and installs routes
init_summary_node        := carries packets of the mesh and serves the apps of this host
init_summary_apptracker  := keeps the list of who offers what in the mesh
init_summary_gatewayd    := shares this host's Internet uplink with subscribers of the mesh
init_summary_subscriberd := keeps this host online through gateways of the mesh
init_after_nodemanager   := meshnet-apptracker
init_after_node          := meshnet-nodemanager
init_after_gatewayd      := meshnet-node
init_after_subscriberd   := meshnet-node
init_cleanup_gatewayd    := yes
init_cleanup_subscriberd := yes
# Remade each time: PREFIX may be another one.
init-files:
	@mkdir -p $(INIT_DIR)
	@$(foreach d,$(DAEMONS),sed -e 's|@NAME@|$(d)|' -e 's|@PREFIX@|$(PREFIX)|' -e 's|@OWNER@|meshnet|' \
		-e "s|@SUMMARY@|$(init_summary_$(d))|" -e 's|@AFTER@|$(init_after_$(d))|' \
		-e 's| *$$||' -e 's|@CLEANUP@|$(or $(init_cleanup_$(d)),no)|' \
		etc/init.d/meshnet.in >$(INIT_DIR)/meshnet-$(d) && chmod 755 $(INIT_DIR)/meshnet-$(d) &&) true
	@$(foreach u,$(UNITS),sed 's|@PREFIX@|$(PREFIX)|' etc/systemd/$(u) >$(INIT_DIR)/$(u) &&) true
.PHONY: init-files

define install_init
	install -d $(DESTDIR)$(INITDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) \
		$(DESTDIR)$(TMPFILESDIR) $(DESTDIR)$(SYSCTLDIR)
	install -m 755 $(DAEMONS:%=$(INIT_DIR)/meshnet-%) $(DESTDIR)$(INITDIR)
	install -m 644 $(UNITS:%=$(INIT_DIR)/%) $(DESTDIR)$(UNITDIR)
	install -m 644 etc/systemd/sysusers.conf $(DESTDIR)$(SYSUSERSDIR)/meshnet.conf
	install -m 644 etc/systemd/tmpfiles.conf $(DESTDIR)$(TMPFILESDIR)/meshnet.conf
	install -m 644 etc/systemd/sysctl.conf $(DESTDIR)$(SYSCTLDIR)/50-meshnet.conf
endef

install: programs library init-files install-data
	install -d $(DESTDIR)$(PREFIX)/bin
	$(install_init)
	$(if $(SANFLAGS),,$(install_library))
	$(foreach p,$(PREFIXED),install -m 755 $(BIN)/$(p:meshnet-%=%) $(DESTDIR)$(PREFIX)/bin/$(p) &&) true
	install -m 755 $(BIN)/meshctl $(DESTDIR)$(PREFIX)/bin/meshctl

install-data:
	install -d $(DESTDIR)$(MANDIR)/man1 $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8 \
		$(DESTDIR)$(BASHDIR) $(DESTDIR)$(ZSHDIR) $(DESTDIR)$(DOCDIR)
	$(foreach p,$(filter-out %.5,$(PAGES)),install -m 644 docs/man/$(p) \
		$(DESTDIR)$(MANDIR)/man$(call section_of,$(p)) &&) true
	awk -v docdir=$(DOCDIR) -f docs/man/keys.awk etc/meshnet-example.cfg docs/man/meshnet.cfg.5.in \
		>$(DESTDIR)$(MANDIR)/man5/meshnet.cfg.5
	chmod 644 $(DESTDIR)$(MANDIR)/man5/meshnet.cfg.5
	$(foreach p,$(PREFIXED),install -m 644 etc/completion/meshnet.bash \
		$(DESTDIR)$(BASHDIR)/$(p) &&) true
	install -m 644 etc/completion/meshctl.bash $(DESTDIR)$(BASHDIR)/meshctl
	install -m 644 etc/completion/meshnet.zsh $(DESTDIR)$(ZSHDIR)/_meshnet
	install -m 644 etc/completion/meshctl.zsh $(DESTDIR)$(ZSHDIR)/_meshctl
	install -m 644 $(DOCS) $(DESTDIR)$(DOCDIR)

# The library as well, whether this SAN has one or not.
uninstall:
	rm -f $(DESTDIR)$(PREFIX)/include/meshapp.h $(DESTDIR)$(LIBDIR)/pkgconfig/meshapp.pc \
		$(addprefix $(DESTDIR)$(LIBDIR)/libmeshapp.,a so so.$(SO_VERSION)) \
		$(DESTDIR)$(MANDIR)/man3/libmeshapp.3
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PREFIXED) meshctl) \
		$(foreach p,$(PAGES),$(DESTDIR)$(MANDIR)/man$(call section_of,$(p))/$(p)) \
		$(addprefix $(DESTDIR)$(BASHDIR)/,$(PREFIXED) meshctl) \
		$(addprefix $(DESTDIR)$(ZSHDIR)/,_meshnet _meshctl)
	rm -f $(addprefix $(DESTDIR)$(DOCDIR)/,$(notdir $(DOCS)))
	rm -f $(DAEMONS:%=$(DESTDIR)$(INITDIR)/meshnet-%) $(UNITS:%=$(DESTDIR)$(UNITDIR)/%) \
		$(DESTDIR)$(SYSUSERSDIR)/meshnet.conf $(DESTDIR)$(TMPFILESDIR)/meshnet.conf \
		$(DESTDIR)$(SYSCTLDIR)/50-meshnet.conf
	-rmdir $(DESTDIR)$(DOCDIR)

# In a copy of debian/, so that the work tree stays clean.  Whatever BUILD was made with, debian/rules builds
# the sources here with the flags of a release, into a folder that is kept.
DEB_TREE = $(BUILD)/deb/meshnet-$(VERSION)
deb:
	@etc/deps.sh deb
	@rm -rf $(BUILD)/deb && mkdir -p $(DEB_TREE)
	@cp -r debian $(DEB_TREE)
	@cd $(DEB_TREE) && env -u MAKEFLAGS -u MAKELEVEL -u BUILD -u SAN -u CC -u OPT -u CFLAGS -u LDFLAGS \
		MESHNET_SOURCE=$(CURDIR) MESHNET_BUILD=$(abspath $(BUILD)/package) DEB_BUILD_OPTIONS="parallel=$(JOBS) $(DEB_BUILD_OPTIONS)" \
		dpkg-buildpackage -b -us -uc >../build.log 2>&1 || { tail -30 ../build.log; exit 1; }
	@ls $(BUILD)/deb/*.deb

clean:
	rm -rf build
.PHONY: test test-vm test-packaging test-all test-cross sim demo lint fuzz bench install install-data \
	uninstall deb clean

.SECONDARY:
-include $(shell find $(BUILD)/obj $(BUILD)/pic $(BUILD)/unit $(BUILD)/fuzz -name '*.d' 2>/dev/null)
