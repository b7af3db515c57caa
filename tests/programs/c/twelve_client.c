// SPDX-License-Identifier: MIT OR Apache-2.0
/* twelve_client DIR PEER: binds to the port that twelve_server offers from the domain PEER. Together they make all twelve calls of
 * libxenevtchn: open, fdopen, close, fd, notify, bind_unbound_port, bind_interdomain, bind_virq, unbind, unmask, pending, restrict. */
#include <poll.h>
#include <stdlib.h>
#include <xenevtchn.h>

#include "meet.h"

/* A new binding has one event of its own at once. */
static int bind_and_take_initial_event(xenevtchn_handle *h, int peer, int remote)
{
    int port = VALUE(xenevtchn_bind_interdomain(h, peer, remote));
    struct pollfd ready = { xenevtchn_fd(h), POLLIN, 0 };
    GIVES(1, poll(&ready, 1, 5000));
    GIVES(port, xenevtchn_pending(h));
    GIVES(0, xenevtchn_unmask(h, port));
    GIVES(0, poll(&ready, 1, 0));
    return port;
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const char *dir = argv[1];
    int peer = atoi(argv[2]), remote = take(dir, "port");
    xenevtchn_handle *h = xenevtchn_open(NULL, XENEVTCHN_NO_CLOEXEC);
    CHECK(h != NULL);

    REFUSED(ESRCH, xenevtchn_bind_interdomain(h, 999, remote));
    REFUSED(EINVAL, xenevtchn_bind_interdomain(h, peer, 0));
    int port = bind_and_take_initial_event(h, peer, remote);
    REFUSED(EINVAL, xenevtchn_bind_interdomain(h, peer, remote));
    GIVES(0, xenevtchn_notify(h, port));
    GIVES(port, xenevtchn_pending(h));     /* the server's answer */
    GIVES(0, xenevtchn_unmask(h, port));

    GIVES(0, xenevtchn_unbind(h, port));
    REFUSED(ENOTCONN, xenevtchn_notify(h, port));
    port = bind_and_take_initial_event(h, peer, remote);
    GIVES(0, xenevtchn_notify(h, port));
    take(dir, "served");
    GIVES(0, xenevtchn_close(h));
    puts("client done");
    GIVES(0, fflush(stdout));
    give(dir, "gone", 1);
    return 0;
}
