/* SPDX-License-Identifier: Apache-2.0 */

/*
 * The floors of the benchmark: what the sockets and the scheduler cost where nothing is done.
 *
 *   bench-floor SOCKET           answers each frame with itself: one hop
 *   bench-floor SOCKET WORKER    hands each frame to the worker that listens at WORKER, and its answer back: two hops
 *
 * A frame is its length in four bytes, big endian, and so many bytes. One client after the other, one frame at a time, blocking: nothing
 * that serves many can do less.
 */

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FRAME_BYTES (64u << 20)

static char *frame;
static size_t frame_cap = 64 * 1024;

static struct sockaddr_un address(const char *path) {
        struct sockaddr_un addr = {.sun_family = AF_UNIX};

        if (strlen(path) >= sizeof(addr.sun_path)) {
                fprintf(stderr, "bench-floor: the path %s is too long for a socket.\n", path);
                exit(2);
        }
        strcpy(addr.sun_path, path);
        return addr;
}

static int reserve(size_t bytes) {
        char *larger;

        if (bytes <= frame_cap)
                return 0;
        larger = realloc(frame, bytes);
        if (!larger)
                return -1;
        frame = larger;
        frame_cap = bytes;
        return 0;
}

/* Reads one frame, mostly with one system call. Return: its bytes with the length before it, 0 when the peer is gone. */
static size_t read_frame(int fd) {
        size_t have = 0, want = sizeof(uint32_t);

        while (have < want) {
                ssize_t n = read(fd, frame + have, have < sizeof(uint32_t) ? frame_cap - have : want - have);
                uint32_t length;

                if (n <= 0)
                        return 0;
                have += (size_t)n;
                if (have < sizeof(uint32_t) || want > sizeof(uint32_t))
                        continue;
                memcpy(&length, frame, sizeof(length));
                want += ntohl(length);
                if (want > FRAME_BYTES || reserve(want) < 0)
                        return 0;
        }
        return have;
}

static int write_frame(int fd, size_t bytes) {
        for (size_t done = 0; done < bytes;) {
                ssize_t n = send(fd, frame + done, bytes - done, MSG_NOSIGNAL);

                if (n <= 0)
                        return -1;
                done += (size_t)n;
        }
        return 0;
}

static void serve(int client, int worker) {
        size_t bytes;

        while ((bytes = read_frame(client)) > 0) {
                if (worker >= 0 && (write_frame(worker, bytes) < 0 || (bytes = read_frame(worker)) == 0))
                        exit(1);
                if (write_frame(client, bytes) < 0)
                        return;
        }
}

static int connect_to(const char *path) {
        struct sockaddr_un addr = address(path);
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
                perror(path);
                exit(1);
        }
        return fd;
}

int main(int argc, char **argv) {
        struct sockaddr_un addr;
        int listening, worker;

        if (argc != 2 && argc != 3) {
                fputs("Usage: bench-floor SOCKET [WORKER]\n", stderr);
                return 2;
        }
        frame = malloc(frame_cap);
        listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!frame || listening < 0)
                return 1;
        worker = argc == 3 ? connect_to(argv[2]) : -1;
        addr = address(argv[1]);
        if (bind(listening, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(listening, 4) < 0) {
                perror(argv[1]);
                return 1;
        }
        for (;;) {
                int client = accept(listening, NULL, NULL);

                if (client < 0)
                        return 1;
                serve(client, worker);
                close(client);
        }
}
