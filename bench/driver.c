/* The clients of the speed benchmark: one thread, epoll. Prints one line of JSON.
 *
 * driver <port> <clients> <turns of each, 0 = any> <seconds, 0 = any> <turns of a chat>
 *        <chunks of an answer> <milliseconds until all have begun> <path> <body> <more headers>
 *
 * Clients begin one after the other, evenly over those milliseconds, or with 0 all at once; each says
 * the next thing when it has the whole answer. "CHAT" in the path becomes a number, another one for
 * each chat. When the seconds are over nothing new is said, what runs is heard to its end, and rates
 * are those of the last three quarters of the seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LONGEST_SECONDS 60
#define MOST_TURNS 4000000

typedef struct client {
  int fd, number, turn, fresh, status, in_body, chunked, closes, heard, head_used;
  long long left, said_at, first_at;
  char head[4096], tail[8];
} client;

static int port, clients, turns, turns_of_a_chat, chunks, poll_fd, running;
static long long began, ends, counts_from, spread_us;
static const char *path, *body, *headers;
static long long done, failed, all_chunks, counted_turns, counted_chunks;
static float *first_ms, *turn_ms;

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int counts(long long now) { return now >= counts_from && (!ends || now < ends); }

static void hang_up(client *c) {
  if (c->fd >= 0) close(c->fd);
  c->fd = -1;
}

static void dial(client *c) {
  struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  int on = 1;
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(c->fd, (struct sockaddr *)&there, sizeof there)) exit(2);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
  c->fresh = 1;
}

static void say(client *c) {
  char target[512], request[16384];
  const char *chat = strstr(path, "CHAT");
  if (chat) sprintf(target, "%.*s%d%s", (int)(chat - path), path, c->number + clients * (c->turn / turns_of_a_chat), chat + 4);
  else strcpy(target, path);
  int n = snprintf(request, sizeof request,
                   "POST %s HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%s",
                   target, port, headers, strlen(body), body);
  c->status = c->in_body = c->chunked = c->closes = c->heard = c->head_used = 0;
  c->left = -1;
  c->first_at = 0;
  memset(c->tail, 0, sizeof c->tail);
  if (send(c->fd, request, n, MSG_NOSIGNAL) == n) return;
  hang_up(c); /* it was closed while idle */
  dial(c);
  if (send(c->fd, request, n, MSG_NOSIGNAL) != n) exit(3);
}

static void begin(client *c) {
  long long now = now_us();
  if ((turns && c->turn >= turns) || (ends && now >= ends)) {
    running--;
    hang_up(c);
    return;
  }
  c->said_at = now;
  if (c->fd < 0) dial(c);
  say(c);
}

static void finish(client *c, int whole) {
  long long now = now_us();
  int fine = whole && c->status == 200 && c->heard == chunks;
  if (fine && done < MOST_TURNS) {
    first_ms[done] = c->first_at ? (c->first_at - c->said_at) / 1000.0 : 0;
    turn_ms[done++] = (now - c->said_at) / 1000.0;
    counted_turns += counts(now);
  } else if (!failed++) {
    fprintf(stderr, "a turn failed: status %d, %d of %d chunks\n%s\n", c->status, c->heard, chunks, c->head);
  }
  c->turn++;
  c->fresh = 0;
  if (c->closes || !whole) hang_up(c);
  begin(c);
}

/* Count chunks by their '~'; an answer that is repeated at the end of its stream is counted once. */
static void count(client *c, const char *text, int length) {
  long long now = now_us();
  const char *at = text, *end = text + length;
  int before = c->heard;
  while (c->heard < chunks && (at = memchr(at, '~', end - at))) at++, c->heard++;
  if (c->heard > before && !c->first_at) c->first_at = now;
  all_chunks += c->heard - before;
  if (counts(now)) counted_chunks += c->heard - before;
}

/* Whether the answer is whole. */
static int hear_body(client *c, const char *text, int length) {
  count(c, text, length);
  if (!c->chunked) return c->left >= 0 && (c->left -= length) <= 0;
  int kept = length < 7 ? 7 - length : 0, taken = length < 7 ? length : 7;
  memmove(c->tail, c->tail + 7 - kept, kept);
  memcpy(c->tail + kept, text + length - taken, taken);
  return !memcmp(c->tail, "\r\n0\r\n\r\n", 7);
}

/* Returns where the body begins in `text`, or -1 when the head is not whole yet. */
static int hear_head(client *c, const char *text, int length) {
  int room = (int)sizeof c->head - 1 - c->head_used, taken = length < room ? length : room;
  memcpy(c->head + c->head_used, text, taken);
  c->head[c->head_used + taken] = 0;
  char *end = strstr(c->head, "\r\n\r\n");
  if (!end) {
    c->head_used += taken;
    return -1;
  }
  end[2] = 0;
  c->in_body = 1;
  c->status = atoi(c->head + 9);
  c->chunked = strcasestr(c->head, "transfer-encoding: chunked") != NULL;
  c->closes = strcasestr(c->head, "connection: close") != NULL;
  char *size = strcasestr(c->head, "content-length:");
  if (size) c->left = atoll(size + 15);
  memcpy(c->tail, "_____\r\n", 7);
  return (int)(end + 4 - c->head) - c->head_used;
}

static void hear(client *c) {
  static char text[262144];
  int length = recv(c->fd, text, sizeof text, MSG_DONTWAIT), at = 0;
  if (length < 0) return;
  if (length == 0) {
    if (!c->fresh && !c->head_used && !c->in_body) { /* closed while idle, as we were about to speak */
      hang_up(c);
      dial(c);
      say(c);
    } else {
      finish(c, c->in_body && !c->chunked && c->left < 0);
    }
    return;
  }
  if (!c->in_body && (at = hear_head(c, text, length)) < 0) return;
  if (hear_body(c, text + at, length - at)) finish(c, 1);
}

static int ascending(const void *a, const void *b) {
  float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

static void print_percentiles(const char *name, float *values) {
  qsort(values, done, sizeof *values, ascending);
  float half = done ? values[done / 2] : 0, most = done ? values[done * 99 / 100] : 0;
  printf(", \"%s_p50\": %.2f, \"%s_p99\": %.2f", name, half, name, most);
}

static void report(void) {
  long long now = now_us();
  double span = ((ends ? ends : now) - counts_from) / 1e6;
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  double cpu = used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
  printf("{\"turns\": %lld, \"failed\": %lld, \"chunks\": %lld", done, failed + running, all_chunks);
  printf(", \"turns_per_second\": %.1f, \"chunks_per_second\": %.1f", counted_turns / span, counted_chunks / span);
  print_percentiles("first_ms", first_ms);
  print_percentiles("turn_ms", turn_ms);
  printf(", \"seconds\": %.3f, \"cpu_seconds\": %.3f}\n", (now - began) / 1e6, cpu);
}

/* Begin the clients whose time has come, from `next` on; returns the first that has to wait. */
static int begin_due(client *all, int next) {
  for (; next < clients && now_us() >= began + spread_us * next / clients; next++) begin(&all[next]);
  return next;
}

/* Until the client that has to wait may begin, or a second. */
static struct timespec wait_for(int next) {
  long long wait = next < clients ? began + spread_us * next / clients - now_us() : 1000000;
  wait = wait < 0 ? 0 : wait > 1000000 ? 1000000 : wait;
  return (struct timespec){wait / 1000000, wait % 1000000 * 1000};
}

int main(int count, char **words) {
  if (count != 11) return 1;
  port = atoi(words[1]), clients = running = atoi(words[2]), turns = atoi(words[3]);
  turns_of_a_chat = atoi(words[5]), chunks = atoi(words[6]);
  spread_us = atof(words[7]) * 1000;
  path = words[8], body = words[9], headers = words[10];
  first_ms = malloc(MOST_TURNS * sizeof *first_ms);
  turn_ms = malloc(MOST_TURNS * sizeof *turn_ms);
  poll_fd = epoll_create1(0);
  began = counts_from = now_us();
  double seconds = atof(words[4]);
  if (seconds > 0) ends = began + seconds * 1e6, counts_from = began + seconds * 0.25e6;
  client *all = calloc(clients, sizeof *all);
  for (int i = 0; i < clients; i++) all[i].number = i, all[i].fd = -1;
  int next = 0;
  while (running > 0 && now_us() - began < (LONGEST_SECONDS + seconds) * 1e6) {
    struct epoll_event events[256];
    next = begin_due(all, next);
    struct timespec timeout = wait_for(next);
    int ready = epoll_pwait2(poll_fd, events, 256, &timeout, NULL);
    for (int i = 0; i < ready; i++) hear(events[i].data.ptr);
  }
  report();
  return 0;
}
