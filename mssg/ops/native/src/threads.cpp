#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(_WIN32)
#include <process.h>
static int process_id() { return _getpid(); }
#else
#include <unistd.h>
static int process_id() { return static_cast<int>(getpid()); }
#endif

namespace mssg {
namespace {

constexpr size_t kPage = 4096;
constexpr int kSpins = 4000;  // some ten microseconds: layers follow each other closely
std::atomic<size_t> total_bytes{0};
PauseOpenMp pause_openmp = nullptr;

struct Buffers {
  float* data[kSlots] = {};
  size_t bytes[kSlots] = {};
  void* allocated[kSlots] = {};
  ~Buffers() {
    for (int i = 0; i < kSlots; i++) release(i);
  }
  void release(int i) {
    std::free(allocated[i]);
    total_bytes -= bytes[i];
    data[i] = nullptr, allocated[i] = nullptr, bytes[i] = 0;
  }
  float* get(int i, size_t floats) {
    const size_t wanted = floats * sizeof(float);
    if (wanted > bytes[i]) {
      release(i);
      void* p = std::malloc(wanted + kPage);
      if (p == nullptr) throw std::bad_alloc();
      allocated[i] = p, bytes[i] = wanted;
      total_bytes += wanted;
      data[i] = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p) + kPage - 1) / kPage * kPage);
    }
    return data[i];
  }
};

struct Job {
  const std::function<void(int)>* task;
  int count;
  std::atomic<int> next{0};
  std::atomic<bool> no_memory{false};
  void work() {
    try {
      for (int i = next++; i < count; i = next++) (*task)(i);
    } catch (const std::bad_alloc&) {
      no_memory = true, next = count;
    }
  }
};

class Pool {
 public:
  const int owner = process_id();  // threads do not survive a fork: the child makes a pool of its own

  void run(Job& job, int helpers) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      while (static_cast<int>(started_) < helpers) std::thread([this] { serve(); }).detach(), started_++;
      job_ = &job;
      wanted_ = helpers;
      generation_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    job.work();
    std::unique_lock<std::mutex> lock(mutex_);
    job_ = nullptr;  // who has not come by now finds nothing left
    done_.wait(lock, [this] { return active_ == 0; });
  }

  std::mutex one_at_a_time;

 private:
  void serve() {
    uint64_t seen = 0;
    for (;;) {
      for (int i = 0; i < kSpins && generation_.load(std::memory_order_acquire) == seen; i++) pause();
      Job* job = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_relaxed) != seen; });
        seen = generation_.load(std::memory_order_relaxed);
        if (job_ != nullptr && wanted_ > 0) job = job_, wanted_--, active_++;
      }
      if (job == nullptr) continue;
      job->work();
      std::lock_guard<std::mutex> lock(mutex_);
      if (--active_ == 0) done_.notify_one();
    }
  }

  static void pause() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#else
    std::this_thread::yield();
#endif
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<uint64_t> generation_{0};
  Job* job_ = nullptr;
  int wanted_ = 0, active_ = 0, started_ = 0;
};

Pool& pool() {
  static std::mutex guard;
  static Pool* current = nullptr;  // never destroyed: its threads wait in it until the process ends
  std::lock_guard<std::mutex> lock(guard);
  if (current == nullptr || current->owner != process_id()) current = new Pool;
  return *current;
}

}  // namespace

void yield_openmp(PauseOpenMp pause) { pause_openmp = pause; }

static void distribute(Job& job, int threads) {
  if (threads > 1) {
    Pool& p = pool();
    std::unique_lock<std::mutex> lock(p.one_at_a_time, std::try_to_lock);
    if (pause_openmp != nullptr) pause_openmp(1);
    if (lock.owns_lock()) return p.run(job, threads - 1);
  }
  job.work();  // also where two callers meet: the second works alone
}

void parallel(int count, int threads, const std::function<void(int)>& task) {
  Job job{&task, count};
  distribute(job, threads < count ? threads : count);
  if (job.no_memory) throw std::bad_alloc();
}

float* buffer(Slot slot, size_t floats) {
  static thread_local Buffers mine;
  return mine.get(slot, floats);
}

size_t buffered_bytes() { return total_bytes; }

}  // namespace mssg
