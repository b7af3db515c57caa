// SPDX-License-Identifier: MIT OR Apache-2.0
/* A process that is killed at any point leaves its peer's port unbound, ready to be bound again at the same number. */
#include <signal.h>
#include <sys/wait.h>

#include "device.h"

/* Binds to the port and then uses it until it is killed. */
static void victim(int port, int tell)
{
    int fd = device(0), mine = VALUE(bind_interdomain(fd, 0, port));
    CHECK(write(tell, "b", 1) == 1);
    for (;;)
        notify(fd, mine);
}

/* Within five seconds; a process may be gone a moment before its files are. */
static int bind_again(int fd, int port)
{
    for (int i = 0; i < 1000; i++) {
        int mine = bind_interdomain(fd, 0, port);
        if (mine >= 0)
            return mine;
        CHECK(errno == EINVAL);
        usleep(5000);
    }
    FAIL("the port was not unbound", port);
}

int main(void)
{
    int server = device(O_NONBLOCK), client = device(0), port = VALUE(bind_unbound(server, 0));
    for (int round = 0; round < 20; round++) {
        int tell[2];
        char byte;
        GIVES(0, pipe(tell));
        pid_t child = VALUE(fork());
        if (child == 0) {
            close(server);
            close(client);
            victim(port, tell[1]);
        }
        GIVES(1, read(tell[0], &byte, 1));
        REFUSED(EINVAL, bind_interdomain(client, 0, port));
        usleep(round * 300);
        GIVES(0, kill(child, SIGKILL));
        GIVES(child, waitpid(child, NULL, 0));
        int mine = bind_again(client, port);
        GIVES(0, unbind(client, mine));
        GIVES(0, notify(server, port));        /* nobody there: still no error */
        while (pending(server) == port)
            GIVES(0, unmask(server, port));
        CHECK(errno == EAGAIN);
        close(tell[0]);
        close(tell[1]);
    }
    puts("ok");
    return 0;
}
