/* LD_PRELOAD: this process's wall clock plus an offset (int64, ns) read from the file that
   CLOCK_SHIM names. It is a step of the computer's clock that only this process sees. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void) {
  const char *path = getenv("CLOCK_SHIM");
  int file = path ? open(path, O_RDONLY) : -1;
  if (file < 0) return;
  void *map = mmap(0, sizeof *offset, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) offset = map;
}

static struct timespec shifted(struct timespec t, int64_t by) {
  int64_t ns = (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec + by;
  t.tv_sec = ns / 1000000000LL;
  t.tv_nsec = ns % 1000000000LL;
  return t;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
  int result = syscall(SYS_clock_gettime, clock, t);
  if (!result && clock == CLOCK_REALTIME && offset) *t = shifted(*t, *offset);
  return result;
}

int gettimeofday(struct timeval *v, void *zone) {
  struct timespec t;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &t);
  v->tv_sec = t.tv_sec;
  v->tv_usec = t.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *result) {
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  if (result) *result = t.tv_sec;
  return t.tv_sec;
}

/* Deadlines on the wall clock were computed from the shifted one; the kernel waits by the true one.
   Those on the monotonic clock are small numbers and stay. */
static struct timespec true_deadline(const struct timespec *t) {
  return offset && t->tv_sec > 1000000000 ? shifted(*t, -*offset) : *t;
}

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec deadline = true_deadline(t);
  return real(c, m, &deadline);
}

/* Fast DDS waits for shared memory so: left alone, its threads would spin while the clock is back. */
int sem_timedwait(sem_t *s, const struct timespec *t) {
  static int (*real)(sem_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "sem_timedwait");
  struct timespec deadline = true_deadline(t);
  return real(s, &deadline);
}

int pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *t) {
  static int (*real)(pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
  struct timespec deadline = true_deadline(t);
  return real(m, &deadline);
}

int pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t k,
                           const struct timespec *t) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_clockwait");
  struct timespec deadline = true_deadline(t);
  return real(c, m, k, &deadline);
}
