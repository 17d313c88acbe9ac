/* Initiators on this machine: a socket whose two ends have one address, and the core from which its peer sent last.
 * Lives here and nowhere else: what the kernel says of a connection's peer. */
#ifndef LNT_NEIGHBOUR_H
#define LNT_NEIGHBOUR_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <netinet/in.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

static inline int lnt_is_neighbour(int fd)
{
    struct sockaddr_storage ours = { 0 }, theirs = { 0 };
    socklen_t ours_size = sizeof ours, theirs_size = sizeof theirs;
    if (getsockname(fd, (struct sockaddr *)&ours, &ours_size)
        || getpeername(fd, (struct sockaddr *)&theirs, &theirs_size) || ours.ss_family != theirs.ss_family)
        return 0;
    if (ours.ss_family == AF_INET)
        return ((struct sockaddr_in *)&ours)->sin_addr.s_addr == ((struct sockaddr_in *)&theirs)->sin_addr.s_addr;
    if (ours.ss_family == AF_INET6)
        return !memcmp(&((struct sockaddr_in6 *)&ours)->sin6_addr, &((struct sockaddr_in6 *)&theirs)->sin6_addr,
                       sizeof(struct in6_addr));
    return ours.ss_family == AF_UNIX;
}

/* Loopback hands a packet over on the core that sends it. */
static inline int lnt_sent_from_here(int fd)
{
    int cpu = -1;
    socklen_t size = sizeof cpu;
    return getsockopt(fd, SOL_SOCKET, SO_INCOMING_CPU, &cpu, &size) == 0 && cpu == sched_getcpu();
}
#endif
