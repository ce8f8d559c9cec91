/*
 * slirp.h - vm-slirp: a user-mode network.  Frames come from one wire; what the
 * guests send to the world becomes ordinary sockets of this process, and back.
 *
 * Addresses are struct in6_addr throughout; IPv4 ones are v4-mapped, so that
 * UDP, TCP and forwarding are written once.  Received packets lie in the
 * wire's batch and are gone after it; packets to send are built in out.c's
 * buffers and are gone after the flush.  Every table is of fixed size,
 * allocated at start.
 */
#ifndef SLIRP_H
#define SLIRP_H

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include "../switch/wire.h"

typedef struct in6_addr ip;	/* a name for the page's sake */

#define PROTO_ICMP	1
#define PROTO_TCP	6
#define PROTO_UDP	17
#define PROTO_ICMP6	58

#define MAX_LEASE	256
#define MAX_SEARCH	8

struct config {
	struct wire	*wire;
	bool		v4, v6, restricted, loopback;
	unsigned	mtu;
	uint32_t	net, mask, host, dns, dhcpstart;	/* host order */
	ip		net6, host6, dns6;	/* /64 */
	ip		host4;			/* host, v4-mapped */
	ip		dns4;
	uint8_t		mac[6], dnsmac[6];
	const char	*hostname, *domain, *bootfile, *tftp, *tftpname;
	const char	*search[MAX_SEARCH];
	unsigned	nsearch;
	unsigned	maxflows;
};
extern struct config cf;

struct stats {
	uint64_t bad, tcp_open, tcp_refused, tcp_full, tcp_evicted, tcp_lost,
	    tcp_rexmit, udp_open,
	    udp_full, icmp_open, arp, dhcp, dns_own, frag, tftp;
};
extern struct stats st;

/* A received packet's L4 part, with where it came from. */
struct pkt {
	ip	src, dst;
	const uint8_t *mac;	/* sender's */
	uint8_t	*l4;
	unsigned len;
	uint8_t	proto, hops;
	const uint8_t *net;	/* the network header, for ICMP errors */
	unsigned netlen;	/* bytes from there to the end */
	bool	summed;		/* no need to check its checksum */
};

/* ---- net.c: addresses, neighbours, resolver */
static inline bool
is4(const ip *a)
{
	return IN6_IS_ADDR_V4MAPPED(a);
}
static inline uint32_t
v4of(const ip *a)	/* host order */
{
	return get32(a->s6_addr + 12);
}
static inline ip
mk4(uint32_t a)
{
	ip r = { .s6_addr = { [10] = 0xff, [11] = 0xff } };
	put32(r.s6_addr + 12, a);
	return r;
}
static inline bool
ipeq(const ip *a, const ip *b)
{
	return !memcmp(a, b, 16);
}
bool	is_host(const ip *);		/* the virtual gateway's */
bool	is_dns(const ip *);
bool	is_ours(const ip *);		/* any address we answer for */
bool	in_net(const ip *);		/* a guest may have it */
/* Where the host finds what a guest calls dst:port.  false: nowhere. */
bool	to_host(const ip *dst, uint16_t port, struct sockaddr_storage *,
	    socklen_t *);
/* The same for an address of the host, be the network restricted or not. */
bool	to_loopback(const ip *dst, uint16_t port, struct sockaddr_storage *,
	    socklen_t *);
/* What a guest calls the host's peer. */
void	from_host(const struct sockaddr_storage *, ip *, uint16_t *port);
void	nb_learn(const ip *, const uint8_t mac[6]);
/* false: not known yet, asked for on the network. */
bool	nb_get(const ip *, uint8_t mac[6]);
const char *ipstr(const ip *);		/* four static buffers in turn */
uint32_t random32(void);
uint32_t flow_hash(const ip *a, uint16_t ap, const ip *b, uint16_t bp);

/* ---- out.c */
unsigned out_room(void);		/* buffers before the next flush */
void	out_need(unsigned n);		/* flush unless n are free */
/* The L4 area of the i-th next packet: 65535 - 60 bytes of room. */
uint8_t	*out_at(unsigned i, bool v6);
/* Send the next one: fills in checksum, IP and Ethernet headers. */
void	out_ip(uint8_t *l4, unsigned len, uint8_t proto, const ip *src,
	    const ip *dst, const uint8_t mac[6]);
/* A TCP segment with a header of hl bytes: to be cut, or to be given its checksum,
 * by the wire if that can; longer than out_mss() only then. */
void	out_tcp(uint8_t *l4, unsigned hl, unsigned len, unsigned mss,
	    const ip *src, const ip *dst, const uint8_t mac[6]);
/* Data bytes that one segment may have towards a guest of this MSS. */
unsigned out_mss(unsigned mss);
/* As out_ip, hop limit 255 (NDP). */
void	out_ndp(uint8_t *l4, unsigned len, const ip *src, const ip *dst,
	    const uint8_t mac[6]);
/* A whole non-IP frame: the payload area, then send. */
uint8_t	*out_raw(void);
void	out_eth(uint8_t *payload, unsigned len, uint16_t type,
	    const uint8_t dst[6]);
uint32_t csum_add(uint32_t sum, const void *, unsigned len);
uint16_t csum_fold(uint32_t sum);
/* Payload bytes of one packet that the MTU leaves to L4. */
unsigned l4_room(bool v6);

/* ---- protocols */
void	eth_input(void *, struct wire *, struct frame *, unsigned n);
void	arp_input(const uint8_t *p, unsigned len, const uint8_t *mac);
void	arp_ask(uint32_t addr);
/* summed: the checksum above IP was not computed yet, or checked already. */
void	ip4_input(uint8_t *p, unsigned len, const uint8_t *mac, bool summed);
void	ip6_input(uint8_t *p, unsigned len, const uint8_t *mac, bool summed);
void	l4_input(struct pkt *);
void	icmp_input(struct pkt *);
/* Tell the sender: code as in RFC 792 type 3; translated for IPv6. */
void	icmp_unreach(struct pkt *, uint8_t code);
void	icmp_start(void);
void	ndp_input(struct pkt *);
void	ndp_start(void);
void	ndp_ask(const ip *);
void	dhcp_input(struct pkt *);
void	dhcp6_input(struct pkt *);
/* name -> address of a lease; case-insensitive, `n` bytes. */
bool	lease_name(const char *name, size_t n, uint32_t *addr);
void	leases_write(FILE *);
void	lease_again(const char *line);	/* one of these */
void	lease_print(void (*put)(const char *));
/* Answers from our own names; false: ask the resolver. */
bool	dns_own(struct pkt *);
void	tftp_input(struct pkt *);
int	tftp_start(void);		/* -1 with errno */
void	udp_input(struct pkt *);
void	udp_start(void);
void	udp_send(const ip *src, uint16_t sp, const ip *dst, uint16_t dp,
	    const uint8_t mac[6], uint8_t *payload_in_out, unsigned len);
/* A bound host socket: what arrives goes to guest:port. */
int	udp_forward(int fd, const ip *guest, uint16_t port);
void	udp_unforward(int fd);
void	tcp_input(struct pkt *);
void	tcp_batch_end(void);
void	tcp_start(void);
unsigned tcp_count(void);
unsigned udp_count(void);
void	flows_print(void (*put)(const char *));
/* A connected host socket becomes a connection to guest:port. */
int	tcp_accept(int fd, const ip *peer, uint16_t peerport, const ip *guest,
	    uint16_t port);
void	tcp_wake(void);			/* after each round of the loop */
/* The guest with this address, or any, may have forgotten its connections. */
void	tcp_doubt(const uint8_t mac[6]);

/* ---- forward.c */
/* hostfwd; given: on the command line */
int	forward_add(const char *rule, bool given, char *why, size_t n);
int	forward_remove(const char *rule, char *why, size_t n);
int	guestfwd_add(const char *rule, char *why, size_t n);
/* A server of ours: target "seed:" or "smb:COMMAND". */
void	guestfwd_own(uint32_t server, uint16_t port, const char *target);
/* A socket for a guest's connection to dst:port, if a guestfwd says so:
 * descriptor, -1 refused, -2 no such rule.  *busy: still connecting. */
int	guestfwd_connect(const ip *dst, uint16_t port, bool *busy);
bool	guestfwd_addr(const ip *);
/* Of cmd: or smb:, or NULL; smb's wants an Internet socket. */
const char *guestfwd_command(unsigned n, bool *inet);
void	forwards_write(FILE *);
void	forward_again(const char *rule, bool given);
void	forward_print(void (*put)(const char *));

/* ---- seed.c */
int	seed_start(const char *file);	/* -1 with errno */
int	seed_connect(void);		/* to the server: a descriptor, or -1 */

/* ---- smb.c */
void	smb_start(const char *dir, uint32_t server);	/* or exits 1 */
void	smb_end(void);			/* in the porter */
void	smb_leave(void);		/* in whoever leaves that to the porter */

/* ---- keep.c: one of the first two, or neither; then load, once */
#define KEEP_BYTES 65536
int	keep_file(const char *path);	/* -1 with errno */
/* KEEP_BYTES of zeroes, or what another process saved: true. */
bool	keep_memory(char *);
void	keep_load(void);
void	keep_save(void);

/* ---- porter.c */
void	porter_own(const char *path);	/* before the start: it removes this */
int	porter_start(void);		/* -1 with errno */
void	porter_end(void);		/* when it has removed everything */
/* Descriptors, or -1 with errno. */
int	porter_run(unsigned guestfwd);
int	porter_resolver(void);

/* ---- control.c */
int	control_open(const char *path, char *why, size_t n);
/* One command; its text, or the reason it failed, on out.  0 or errno. */
int	control_ask(char *command, FILE *out);

/* ---- vm-slirp.c */
void	confine(void);			/* the porter and the sandbox, or exit */
void	defaults(void);
void	option(char *key_and_value);	/* exits 2 if it is bad */
/* Exits 1 if something cannot be had.  revived: with what keep_memory() holds. */
void	start(const char *wire, bool revived);

/* ---- part.c: vm-slirp --part VM/NAME [option=value...], for the broker */
int	part_main(char **options);

#endif
