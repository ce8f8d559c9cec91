/* vde.h - the VDE 2 control request, host byte order, as libvdeplug sends it.
 * The description is as long as the packet says; the answer is one
 * struct sockaddr_un. */
#ifndef VDE_H
#define VDE_H

#include <sys/un.h>
#include "wire.h"

#define VDE_MAGIC	0xfeedfaceu
#define VDE_VERSION	3
#define VDE_DESCR	128

struct vde_request {
	uint32_t	magic, version, type;	/* type: port << 8 | 0 */
	struct sockaddr_un sock;
	char		descr[VDE_DESCR];
} __attribute__((packed));
_Static_assert(offsetof(struct vde_request, descr) == 122, "vde request");

#endif
