/*
 * Networks: `info network', `info usernet', set_link, hostfwd_add,
 * hostfwd_remove, and what would need hot plug.  Cards and networks are parts; a
 * card says which network it is on (dev/nic.h), and a user network (vm-slirp
 * --part) does what is asked.
 */
#include <stdlib.h>
#include <string.h>
#include "mon.h"

/* The network of a card's answer "...,peer=KIND:NAME": NAME, or NULL. */
static const char *
peer_of(char *answer, const char *kind)
{
	char *p = strstr(answer, kind);

	if (p == NULL)
		return NULL;
	p += strlen(kind);
	p[strcspn(p, ",\n")] = '\0';
	return p;
}

static bool
is_card(const char *answer)
{
	return strncmp(answer, "type=nic,", 9) == 0;
}

/* What a part says to `network`, or NULL. */
static char *
network_of(struct mon *m, const char *name, const char *chip)
{
	char *reply = NULL;

	if (!mon_chip(name, chip) ||
	    m->ask(m, name, "network", &reply) != 0 || reply == NULL) {
		free(reply);
		return NULL;
	}
	reply[strcspn(reply, "\n")] = '\0';
	return reply;
}

static int
net_part(struct mon *m, const char *name, const char *chip, const char *line)
{
	char *card = network_of(m, name, chip), *net;
	const char *peer;

	if (card == NULL || !is_card(card)) {
		free(card);
		return 0;
	}
	fprintf(m->out, "%s: %s\n", name, card);
	peer = peer_of(card, ",peer=part:");
	if (peer == NULL)
		peer = peer_of(card, ",peer=hub:");
	if (peer != NULL) {
		net = network_of(m, peer, "");
		fprintf(m->out, " \\ %s: %s\n", peer, net ? net : "(gone)");
		free(net);
	}
	free(card);
	return 0;
}

int
info_network(struct mon *m, int argc, char **argv)
{
	return mon_parts(m, net_part);
}

/* ------------------------------------------------------- the user network */

static char	first[32];

static int
find_user(struct mon *m, const char *name, const char *chip, const char *line)
{
	if (strcmp(chip, "slirp") == 0 && !*first)
		snprintf(first, sizeof first, "%s", name);
	return 0;
}

static int
user_part(struct mon *m, const char *name, const char *chip, const char *line)
{
	if (strcmp(chip, "slirp") != 0)
		return 0;
	fprintf(m->out, "%s:\n", name);
	mon_tell(m, name, "info usernet");
	return 0;
}

int
info_usernet(struct mon *m, int argc, char **argv)
{
	return mon_parts(m, user_part);
}

int
cmd_hostfwd(struct mon *m, int argc, char **argv)
{
	const char *rule = argv[argc - 1], *net = argv[1];

	if (argc == 2) {
		*first = '\0';
		if (mon_parts(m, find_user) == -1)
			return -1;
		if (!*first)
			return mon_fail(m, "there is no user network");
		net = first;
	}
	return mon_tell(m, net, "%s '%s'", argv[0], rule);
}

/* --------------------------------------------------------------- set_link */

static const char *wanted;
static char	found[32];

static int
find_card(struct mon *m, const char *name, const char *chip, const char *line)
{
	char *card = network_of(m, name, chip);
	const char *peer = card != NULL && is_card(card) ?
	    peer_of(card, ",peer=part:") : NULL;

	if (peer != NULL && strcmp(peer, wanted) == 0)
		snprintf(found, sizeof found, "%s", name);
	free(card);
	return 0;
}

/* By the card's name or its network's. */
int
cmd_set_link(struct mon *m, int argc, char **argv)
{
	*found = '\0';
	wanted = argv[1];
	if (strcmp(argv[2], "on") != 0 && strcmp(argv[2], "off") != 0)
		return mon_fail(m, "set_link: %s: on or off expected", argv[2]);
	if (mon_parts(m, find_card) == -1)
		return -1;
	return mon_tell(m, *found ? found : argv[1], "set_link %s", argv[2]);
}

/* ------------------------------------------------------------- hot plug */

int
cmd_hotplug(struct mon *m, int argc, char **argv)
{
	return mon_fail(m, "%s %s: this machine's bus has no hot plug; "
	    "set_link plugs the cable", argv[0], argv[1]);
}
