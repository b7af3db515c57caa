// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program whose memory others of its user may not read. Every call is answered: served, or refused with an errno that says so;
 * prints which. */
#include <sys/prctl.h>

#include "device.h"

int main(void)
{
    GIVES(0, prctl(PR_SET_DUMPABLE, 0));
    int fd = open(NODE, O_RDWR | O_NONBLOCK);
    int port = fd < 0 ? -1 : bind_unbound(fd, 0);
    if (port < 0) {
        CHECK(errno == EPERM || errno == EACCES || errno == EFAULT);
        puts("refused");
        return 0;
    }
    passes(fd, fd, channel(fd, fd, 0));
    puts("served");
    return 0;
}
