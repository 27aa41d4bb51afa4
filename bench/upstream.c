/* The model API of the speed benchmark: one thread, epoll, and as little work per chunk as there can be.
 *
 * Prints its port. `GET /pace/<chunks>/<microseconds>` says how later answers are paced; every POST is
 * answered with so many chunks, streamed if the body says so, else at once. A chunk is as long as
 * OpenAI's, and its text holds one '~', by which whoever listens counts.
 *
 * All streams of one run have one pace, so a queue in order of arrival is in order of time as well.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_CONNECTIONS 20000
#define HEAD "\"id\":\"chatcmpl-CeXKZn4gvT3oG7yGk1Xq2mWQ\",\"created\":1763700000,\"model\":\"bench\""
#define CHUNK(delta, reason, usage)                                                           \
  "data: {" HEAD ",\"object\":\"chat.completion.chunk\",\"service_tier\":\"default\","        \
  "\"system_fingerprint\":\"fp_b547601dbd\",\"choices\":[{\"index\":0,\"delta\":{" delta "}," \
  "\"logprobs\":null,\"finish_reason\":" reason "}],\"usage\":" usage "}\n\n"
#define USAGE "{\"prompt_tokens\":9,\"completion_tokens\":9,\"total_tokens\":18}"

typedef struct connection {
  int fd, used, size, queued, left, pause;
  char *buffer;
  long long due;
  struct connection *next;
} connection;

static connection *connections[MOST_CONNECTIONS], *first, *last;
static int chunks = 8, pause_us;
static char opening[1024], token[1024], ending[2048];

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void drop(connection *c) {
  if (c->fd >= 0) {
    connections[c->fd] = NULL;
    close(c->fd);
    c->fd = -1;
  }
  if (c->queued) return; /* `play` frees it when its turn comes */
  free(c->buffer);
  free(c);
}

/* Everything sent here is far smaller than a socket's buffer: what does not fit is an error. */
static int put(connection *c, const char *text, int length) {
  return send(c->fd, text, length, MSG_NOSIGNAL) == length;
}

static int as_chunk(char *out, const char *text) {
  return sprintf(out, "%zx\r\n%s\r\n", strlen(text), text);
}

static void queue(connection *c) {
  c->next = NULL;
  c->queued = 1;
  if (first) last->next = c;
  else first = c;
  last = c;
}

/* Send the chunks that are due. */
static void play(long long now) {
  while (first && first->due <= now) {
    connection *c = first;
    first = c->next;
    c->queued = 0;
    int alive = c->fd >= 0 && put(c, token, strlen(token));
    if (alive && --c->left > 0) {
      c->due += c->pause;
      queue(c);
    } else if (!alive || !put(c, ending, strlen(ending))) {
      drop(c);
    }
  }
}

static int answer_whole(connection *c) {
  char body[8192], head[256];
  int n = sprintf(body, "{" HEAD ",\"object\":\"chat.completion\",\"choices\":[{\"index\":0,"
                        "\"message\":{\"role\":\"assistant\",\"content\":\"");
  for (int i = 0; i < chunks && n < 8000; i++) n += sprintf(body + n, "tok~ ");
  n += sprintf(body + n, "\"},\"finish_reason\":\"stop\"}],\"usage\":" USAGE "}");
  int h = sprintf(head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", n);
  memmove(body + h, body, n);
  memcpy(body, head, h);
  return put(c, body, h + n);
}

static int answer(connection *c, const char *body, int length) {
  if (!memmem(body, length, "\"stream\":true", 13) && !memmem(body, length, "\"stream\": true", 14))
    return answer_whole(c);
  if (!put(c, opening, strlen(opening))) return 0;
  c->left = chunks;
  c->pause = pause_us;
  c->due = now_us() + pause_us;
  queue(c);
  return 1;
}

static int change_pace(connection *c) {
  static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  return sscanf(c->buffer, "GET /pace/%d/%d", &chunks, &pause_us) == 2 && put(c, ok, sizeof ok - 1);
}

/* Answer each whole request in the buffer. */
static int serve(connection *c) {
  for (;;) {
    char *end = memmem(c->buffer, c->used, "\r\n\r\n", 4);
    if (!end) return 1;
    int head = end + 4 - c->buffer, length = 0;
    *end = 0;
    char *header = strcasestr(c->buffer, "content-length:");
    if (header) length = atoi(header + 15);
    *end = '\r';
    if (c->used < head + length) return 1;
    if (!(c->buffer[0] == 'G' ? change_pace(c) : answer(c, c->buffer + head, length))) return 0;
    c->used -= head + length;
    memmove(c->buffer, c->buffer + head + length, c->used);
  }
}

static void receive(connection *c) {
  if (c->size - c->used < 65536) c->buffer = realloc(c->buffer, (c->size = c->size * 2 + 131072));
  int got = recv(c->fd, c->buffer + c->used, c->size - c->used - 1, MSG_DONTWAIT);
  if (got < 0) return;
  c->buffer[c->used += got] = 0;
  if (got == 0 || !serve(c)) drop(c);
}

static void accept_all(int listener, int poll) {
  int fd, on = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
    if (fd >= MOST_CONNECTIONS) {
      close(fd);
      continue;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection *c = connections[fd] = calloc(1, sizeof *c);
    c->fd = fd;
    epoll_ctl(poll, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
  }
}

int main(void) {
  as_chunk(token, CHUNK("\"content\":\"tok~ \"", "null", "null"));
  sprintf(opening, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
  as_chunk(opening + strlen(opening), CHUNK("\"role\":\"assistant\",\"content\":\"\"", "null", "null"));
  as_chunk(ending, CHUNK("", "\"stop\"", USAGE) "data: [DONE]\n\n");
  strcat(ending, "0\r\n\r\n");
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t size = sizeof here;
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), poll = epoll_create1(0);
  if (bind(listener, (struct sockaddr *)&here, size) || listen(listener, 4096)) return 1;
  getsockname(listener, (struct sockaddr *)&here, &size);
  printf("%d\n", ntohs(here.sin_port));
  fflush(stdout);
  epoll_ctl(poll, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
  for (;;) {
    struct epoll_event events[256];
    long long wait = first ? first->due - now_us() : 1000000;
    wait = wait < 0 ? 0 : wait > 1000000 ? 1000000 : wait;
    struct timespec timeout = {wait / 1000000, wait % 1000000 * 1000};
    int count = epoll_pwait2(poll, events, 256, &timeout, NULL);
    for (int i = 0; i < count; i++) {
      if (events[i].data.fd == listener) accept_all(listener, poll);
      else if (connections[events[i].data.fd]) receive(connections[events[i].data.fd]);
    }
    play(now_us());
  }
}
