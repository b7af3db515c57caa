// SPDX-License-Identifier: MIT OR Apache-2.0
/* One open file seen through several descriptors: dup, fork, SCM_RIGHTS; and descriptors whose number is used for something else. */
#include <sys/socket.h>
#include <sys/wait.h>

#include "device.h"

static void ended_well(pid_t child)
{
    int status;
    GIVES(child, waitpid(child, &status, 0));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void duplicates(void)
{
    int first = device(0), other = device(0), second = VALUE(dup(first)), third = VALUE(fcntl(first, F_DUPFD_CLOEXEC, 50));
    struct channel c = channel(first, other, 0);
    passes(second, other, c);
    GIVES(0, close(first));
    passes(third, other, c);
    GIVES(second, dup2(other, second));          /* the number now means the other file */
    REFUSED(ENOTCONN, notify(second, c.listener));
    GIVES(0, notify(second, c.caller));
    GIVES(c.listener, pending(third));
    GIVES(0, unmask(third, c.listener));
    GIVES(0, close(third));                      /* the last one: the listener is closed */
    REFUSED(EINVAL, bind_interdomain(other, 0, c.listener));
    GIVES(0, close(second));
    GIVES(0, close(other));
}

static void reused_number(void)
{
    int fd = device(0), pipes[2];
    GIVES(0, close(fd));
    REFUSED(EBADF, bind_virq(fd, 8));
    GIVES(0, pipe(pipes));
    GIVES(fd, dup2(pipes[0], fd));
    REFUSED(ENOTTY, bind_virq(fd, 8));
    GIVES(4, write(pipes[1], "pipe", 4));
    char text[4];
    GIVES(4, read(fd, text, 4));
    GIVES(0, memcmp(text, "pipe", 4));
    close(fd);
    close(pipes[0]);
    close(pipes[1]);
}

static void forked(void)
{
    int fd = device(0), other = device(0);
    struct channel c = channel(fd, other, 0);
    pid_t child = VALUE(fork());
    if (child == 0) {
        GIVES(0, notify(other, c.caller));
        GIVES(0, close(fd));
        GIVES(0, close(other));
        exit(0);
    }
    ended_well(child);
    GIVES(1, readable(fd, 5000));
    GIVES(c.listener, pending(fd));              /* the child's event; its close has closed nothing */
    GIVES(0, unmask(fd, c.listener));
    passes(fd, other, c);
    close(fd);
    close(other);
}

static void send_fd(int to, int fd)
{
    char byte = 0, space[CMSG_SPACE(sizeof fd)] = { 0 };
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
    struct cmsghdr *control = CMSG_FIRSTHDR(&message);
    *control = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd) };
    memcpy(CMSG_DATA(control), &fd, sizeof fd);
    GIVES(1, sendmsg(to, &message, 0));
}

static int receive_fd(int from)
{
    int fd;
    char byte, space[CMSG_SPACE(sizeof fd)];
    struct iovec part = { &byte, 1 };
    struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space };
    GIVES(1, recvmsg(from, &message, 0));
    CHECK(CMSG_FIRSTHDR(&message) != NULL);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void passed_over_a_socket(void)
{
    int pair[2];
    GIVES(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair));
    pid_t child = VALUE(fork());
    if (child == 0) {
        int fd = receive_fd(pair[1]), other = device(0);
        moment = 1000;
        passes(fd, other, channel(fd, other, 0));
        exit(0);
    }
    int fd = device(0), port = VALUE(bind_unbound(fd, 0));
    send_fd(pair[0], fd);
    ended_well(child);
    GIVES(0, unbind(fd, port));                  /* still this process's file */
    close(fd);
    close(pair[0]);
    close(pair[1]);
}

/* A program that reads until nothing is left, as users of edges must, reads its own writes back on such a descriptor. No event
 * may stay away for that. */
static void written_and_read_back(void)
{
    int fd = device(O_NONBLOCK), other = device(0);
    struct channel c = channel(fd, other, 0);
    int low = VALUE(dup2(fd, 40));
    for (int i = 0; i < 300; i++) {
        GIVES(0, notify(other, c.caller));
        GIVES(1, readable(low, 5000));
        while (pending(low) >= 0)
            ;
        GIVES(0, unmask(low, c.listener));
        while (pending(low) >= 0)
            ;
    }
    close(low);
    close(fd);
    close(other);
}

int main(void)
{
    duplicates();
    reused_number();
    forked();
    passed_over_a_socket();
    written_and_read_back();
    puts("ok");
    return 0;
}
