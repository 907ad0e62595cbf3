/* SPDX-License-Identifier: Apache-2.0 */

/*
 * A plugin server for cpexd (docs/protocol.md), one process a connection: redact_server SOCKET
 *
 * On tool_pre_invoke it blots out the word "secret" in the arguments and refuses the tool "forbidden". In plugins.yaml:
 *
 *     - {name: redact, kind: external, hooks: [tool_pre_invoke], isolation: {socket: SOCKET}}
 */

#include <msgpack.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK 65536

static bool is(const msgpack_object *object, const char *text) {
        return object && object->type == MSGPACK_OBJECT_STR && object->via.str.size == strlen(text) &&
               memcmp(object->via.str.ptr, text, object->via.str.size) == 0;
}

static const msgpack_object *get(const msgpack_object *map, const char *key) {
        if (map && map->type == MSGPACK_OBJECT_MAP)
                for (uint32_t i = 0; i < map->via.map.size; i++)
                        if (is(&map->via.map.ptr[i].key, key))
                                return &map->via.map.ptr[i].val;
        return NULL;
}

static void put(msgpack_packer *out, const char *text) {
        msgpack_pack_str_with_body(out, text, strlen(text));
}

/* Overwrites each "secret" in the texts of a value. Return: whether there was one. */
static bool redact(msgpack_object *value) {
        bool found = false;

        if (value->type == MSGPACK_OBJECT_STR) {
                char *text = (char *)value->via.str.ptr, *hit; /* in the document's own memory, which is ours */

                for (size_t left = value->via.str.size; (hit = memmem(text, left, "secret", 6)); found = true) {
                        memcpy(hit, "******", 6);
                        left -= (size_t)(hit - text);
                        text = hit;
                }
        } else if (value->type == MSGPACK_OBJECT_MAP) {
                for (uint32_t i = 0; i < value->via.map.size; i++)
                        found |= redact(&value->via.map.ptr[i].val);
        } else if (value->type == MSGPACK_OBJECT_ARRAY) {
                for (uint32_t i = 0; i < value->via.array.size; i++)
                        found |= redact(&value->via.array.ptr[i]);
        }
        return found;
}

static void tool_pre_invoke(msgpack_packer *out, msgpack_object *payload) {
        static const char *const violation[] = {"reason", "Forbidden tool", "description", "No.", "code", "FORBIDDEN"};
        msgpack_sbuffer changed;
        msgpack_packer packer;

        if (is(get(payload, "name"), "forbidden")) {
                msgpack_pack_map(out, 2);
                put(out, "continue_processing");
                msgpack_pack_false(out);
                put(out, "violation");
                msgpack_pack_map(out, 3);
                for (size_t i = 0; i < 6; i++)
                        put(out, violation[i]);
        } else if (redact(payload)) {
                msgpack_sbuffer_init(&changed);
                msgpack_packer_init(&packer, &changed, msgpack_sbuffer_write);
                msgpack_pack_object(&packer, *payload);
                msgpack_pack_map(out, 1);
                put(out, "modified_payload");
                msgpack_pack_bin_with_body(out, changed.data, changed.size);
                msgpack_sbuffer_destroy(&changed);
        } else {
                msgpack_pack_map(out, 0); /* nothing to say */
        }
}

/* [0, id, method, [params]] → [1, id, error, result]; a cancellation is no request */
static void answer(int fd, const msgpack_object *message) {
        const msgpack_object *part = message->via.array.ptr, *payload;
        msgpack_unpacked document;
        msgpack_sbuffer buffer;
        msgpack_packer out;

        if (message->type != MSGPACK_OBJECT_ARRAY || message->via.array.size != 4 || part[0].via.u64 != 0 ||
            part[3].type != MSGPACK_OBJECT_ARRAY || part[3].via.array.size != 1)
                return;
        msgpack_sbuffer_init(&buffer);
        msgpack_packer_init(&out, &buffer, msgpack_sbuffer_write);
        msgpack_unpacked_init(&document);
        msgpack_pack_array(&out, 4);
        msgpack_pack_int(&out, 1);
        msgpack_pack_object(&out, part[1]);
        msgpack_pack_nil(&out);
        payload = get(part[3].via.array.ptr, "payload");
        if (is(&part[2], "invoke") && payload && payload->type == MSGPACK_OBJECT_BIN &&
            is(get(part[3].via.array.ptr, "hook"), "tool_pre_invoke") &&
            msgpack_unpack_next(&document, payload->via.bin.ptr, payload->via.bin.size, NULL) == MSGPACK_UNPACK_SUCCESS)
                tool_pre_invoke(&out, &document.data);
        else
                msgpack_pack_map(&out, 0);
        (void)!write(fd, buffer.data, buffer.size); /* a blocking socket takes it all */
        msgpack_unpacked_destroy(&document);
        msgpack_sbuffer_destroy(&buffer);
}

static void serve(int fd) {
        msgpack_unpacked message;
        msgpack_unpacker in;
        ssize_t n;

        msgpack_unpacked_init(&message);
        if (!msgpack_unpacker_init(&in, CHUNK))
                return;
        while (msgpack_unpacker_reserve_buffer(&in, CHUNK) && (n = read(fd, msgpack_unpacker_buffer(&in), CHUNK)) > 0) {
                msgpack_unpacker_buffer_consumed(&in, (size_t)n);
                while (msgpack_unpacker_next(&in, &message) == MSGPACK_UNPACK_SUCCESS)
                        answer(fd, &message.data);
        }
}

int main(int argc, char **argv) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

        (void)strncpy(address.sun_path, argc == 2 ? argv[1] : "", sizeof(address.sun_path) - 1);
        if (bind(listener, (struct sockaddr *)&address, sizeof(address)) < 0 || listen(listener, 128) < 0) {
                perror("usage: redact_server SOCKET");
                return 1;
        }
        (void)signal(SIGCHLD, SIG_IGN);
        for (; (fd = accept(listener, NULL, NULL)) >= 0; (void)close(fd))
                if (fork() == 0) {
                        serve(fd);
                        return 0;
                }
        perror("accept");
        return 1;
}
