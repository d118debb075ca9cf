// Runs ONNX graphs on raw inputs from files, with the libonnxruntime.so that it is given.
//
//   graphs LIBRARY JOBS SECONDS
//
// jobs.py, beside this folder, tells what the file JOBS holds and what is printed. ONNX Runtime's C functions
// are a table whose order never changes, so their places in it are all that is needed to call them.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { API_VERSION = 13, TEXT = 8, MOST = 512, RANK = 16 };
enum {
  GET_ERROR_MESSAGE = 2,
  CREATE_ENV = 3,
  CREATE_SESSION = 7,
  RUN = 9,
  CREATE_SESSION_OPTIONS = 10,
  SET_LOG_SEVERITY = 22,
  SET_OPTIMIZATION_LEVEL = 23,
  SET_INTRA_OP_THREADS = 24,
  SET_INTER_OP_THREADS = 25,
  CREATE_TENSOR = 48,
  CREATE_TENSOR_WITH_DATA = 49,
  GET_TENSOR_DATA = 51,
  FILL_STRINGS = 52,
  GET_ELEMENT_TYPE = 60,
  GET_RANK = 61,
  GET_DIMENSIONS = 62,
  GET_COUNT = 64,
  GET_TYPE_AND_SHAPE = 65,
  CREATE_CPU_MEMORY = 69,
  GET_ALLOCATOR = 78,
  RELEASE_VALUE = 96,
  RELEASE_TYPE_AND_SHAPE = 99,
  RELEASE_SESSION_OPTIONS = 100,
  GET_STRING_LENGTH = 127,
  GET_STRING = 128,
  ADD_SETTING = 130,
};

typedef struct {
  const void *const *(*get_api)(uint32_t);
  const char *(*get_version)(void);
} Base;

typedef struct {
  char *name;
  char *file;
} Named;

static const void *const *api;
static void *environment, *memory, *allocator;
static const int SIZES[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8};

static void fail(const char *text) {
  fprintf(stderr, "failed: %s\n", text);
  exit(1);
}

// A status is NULL where all is well.
static void check(void *status) {
  if (status) fail(((const char *(*)(void *))api[GET_ERROR_MESSAGE])(status));
}

#define CALL(place, types, ...) check(((void *(*) types)api[place])(__VA_ARGS__))

static void *held(void *memory_or_null) {
  if (!memory_or_null) fail("out of memory");
  return memory_or_null;
}

static double now(void) {
  struct timespec at;
  clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec + at.tv_nsec * 1e-9;
}

static char *read_all(const char *path, size_t *size) {
  FILE *file = fopen(path, "rb");
  if (!file) fail(path);
  fseek(file, 0, SEEK_END);
  *size = (size_t)ftell(file);
  rewind(file);
  char *data = held(malloc(*size + 1));
  if (fread(data, 1, *size, file) != *size) fail(path);
  data[*size] = 0;
  fclose(file);
  return data;
}

static void *text_tensor(const char *data, const int64_t *shape, size_t rank) {
  size_t count = 1;
  for (size_t axis = 0; axis < rank; axis++) count *= (size_t)shape[axis];
  const char **texts = held(malloc((count + 1) * sizeof *texts));
  for (size_t index = 0; index < count; index++, data += strlen(data) + 1) texts[index] = data;
  void *value = NULL;
  CALL(CREATE_TENSOR, (void *, const int64_t *, size_t, int, void **), allocator, shape, rank, TEXT, &value);
  CALL(FILL_STRINGS, (void *, const char *const *, size_t), value, texts, count);
  free(texts);
  return value;
}

// `rest` is "DTYPE RANK SIZE … FILE NAME"; the data of numbers is used where it lies, and so is kept.
static void *read_input(char *rest, char **name, char **kept) {
  int number = (int)strtol(rest, &rest, 10);
  size_t rank = (size_t)strtol(rest, &rest, 10), size = 0;
  int64_t shape[RANK];
  if (rank > RANK) fail("too many axes");
  for (size_t axis = 0; axis < rank; axis++) shape[axis] = strtoll(rest, &rest, 10);
  char *file = strtok_r(rest, " ", name);
  char *data = *kept = read_all(file, &size);
  if (number == TEXT) return text_tensor(data, shape, rank);
  void *value = NULL;
  CALL(CREATE_TENSOR_WITH_DATA, (void *, void *, size_t, const int64_t *, size_t, int, void **), memory, data,
       size, shape, rank, number, &value);
  return value;
}

static void write_output(void *value, const char *path) {
  void *about = NULL, *data = NULL;
  int number = 0;
  size_t rank = 0, count = 0;
  int64_t shape[RANK];
  CALL(GET_TYPE_AND_SHAPE, (void *, void **), value, &about);
  CALL(GET_ELEMENT_TYPE, (void *, int *), about, &number);
  CALL(GET_RANK, (void *, size_t *), about, &rank);
  if (rank > RANK) fail("too many axes");
  CALL(GET_DIMENSIONS, (void *, int64_t *, size_t), about, shape, rank);
  CALL(GET_COUNT, (void *, size_t *), about, &count);
  ((void (*)(void *))api[RELEASE_TYPE_AND_SHAPE])(about);
  FILE *file = fopen(path, "wb");
  if (!file) fail(path);
  if (number == TEXT) {
    for (size_t index = 0; index < count; index++) {
      size_t length = 0;
      CALL(GET_STRING_LENGTH, (void *, size_t, size_t *), value, index, &length);
      char *text = held(calloc(length + 1, 1));
      CALL(GET_STRING, (void *, size_t, size_t, void *), value, length, index, text);
      if (fwrite(text, 1, length + 1, file) != length + 1) fail(path);
      free(text);
    }
  } else {
    if (number < 1 || number >= (int)(sizeof SIZES / sizeof *SIZES)) fail("an output of an unknown type");
    CALL(GET_TENSOR_DATA, (void *, void **), value, &data);
    if (fwrite(data, (size_t)SIZES[number], count, file) != count) fail(path);
  }
  if (fclose(file)) fail(path);
  printf("output %d %zu", number, rank);
  for (size_t axis = 0; axis < rank; axis++) printf(" %lld", (long long)shape[axis]);
  printf(" %s\n", path);
}

static struct {
  char *model;
  Named inputs[MOST], outputs[MOST];
  void *values[MOST];
  char *kept[MOST];
  char *keys[MOST], *settings[MOST];
  size_t taken, given, set;
  int level;
} job;

static void *opened_for_one_thread(void) {
  void *options = NULL, *session = NULL;
  CALL(CREATE_SESSION_OPTIONS, (void **), &options);
  CALL(SET_LOG_SEVERITY, (void *, int), options, 4);
  CALL(SET_INTRA_OP_THREADS, (void *, int), options, 1);
  CALL(SET_INTER_OP_THREADS, (void *, int), options, 1);
  CALL(SET_OPTIMIZATION_LEVEL, (void *, int), options, job.level);
  for (size_t index = 0; index < job.set; index++)
    CALL(ADD_SETTING, (void *, const char *, const char *), options, job.keys[index], job.settings[index]);
  CALL(CREATE_SESSION, (void *, const char *, void *, void **), environment, job.model, options, &session);
  ((void (*)(void *))api[RELEASE_SESSION_OPTIONS])(options);
  return session;
}

// The job's graph, which an earlier job may have opened.
static void *session(void) {
  static struct {
    char *model;
    void *session;
  } opened[MOST];
  static int count;
  for (int index = 0; index < count; index++)
    if (!strcmp(opened[index].model, job.model)) return opened[index].session;
  if (count == MOST) fail("too many graphs");
  opened[count].session = opened_for_one_thread();
  opened[count].model = held(strdup(job.model));
  return opened[count++].session;
}

static void start(const char *library) {
  void *loaded = dlopen(library, RTLD_NOW);
  if (!loaded) fail(dlerror());
  const Base *(*base)(void) = (const Base *(*)(void))dlsym(loaded, "OrtGetApiBase");
  if (!base || !(api = base()->get_api(API_VERSION))) fail("the library is not a known ONNX Runtime");
  CALL(CREATE_ENV, (int, const char *, void **), 4, "graphs", &environment);
  CALL(CREATE_CPU_MEMORY, (int, int, void **), 1, 0, &memory);
  CALL(GET_ALLOCATOR, (void **), &allocator);
}

static void run_job(void) {
  const char *taken[MOST], *given[MOST];
  void *made[MOST] = {0};
  for (size_t index = 0; index < job.taken; index++) taken[index] = job.inputs[index].name;
  for (size_t index = 0; index < job.given; index++) given[index] = job.outputs[index].name;
  CALL(RUN, (void *, void *, const char *const *, void *const *, size_t, const char *const *, size_t, void **),
       session(), NULL, taken, job.values, job.taken, given, job.given, made);
  for (size_t index = 0; index < job.given; index++) {
    write_output(made[index], job.outputs[index].file);
    ((void (*)(void *))api[RELEASE_VALUE])(made[index]);
  }
  for (size_t index = 0; index < job.taken; index++) {
    ((void (*)(void *))api[RELEASE_VALUE])(job.values[index]);
    free(job.kept[index]);
  }
  printf("ran\n");
  fflush(stdout);
}

int main(int count, char **words) {
  if (count != 4) fail("expected LIBRARY JOBS SECONDS");
  double until = now() + atof(words[3]);
  size_t size = 0;
  start(words[1]);
  char *place = NULL, *jobs = read_all(words[2], &size);
  for (char *line = strtok_r(jobs, "\n", &place); line; line = strtok_r(NULL, "\n", &place)) {
    char *rest = NULL, *word = strtok_r(line, " ", &rest), *second = NULL;
    if (job.taken == MOST || job.given == MOST || job.set == MOST) fail("too many tensors");
    if (!strcmp(word, "model")) {
      job.level = (int)strtol(rest, &job.model, 10);
      job.model++;
      job.taken = job.given = job.set = 0;
    } else if (!strcmp(word, "setting")) {
      job.keys[job.set] = strtok_r(rest, " ", &second);
      job.settings[job.set++] = second;
    } else if (!strcmp(word, "input")) {
      job.values[job.taken] = read_input(rest, &job.inputs[job.taken].name, &job.kept[job.taken]);
      job.taken++;
    } else if (!strcmp(word, "output")) {
      job.outputs[job.given].file = strtok_r(rest, " ", &second);
      job.outputs[job.given++].name = second;
    } else if (!strcmp(word, "run")) {
      if (now() > until) break;
      run_job();
    }
  }
  return 0;
}
