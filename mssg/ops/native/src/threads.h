// A small pool of threads and buffers that are kept from call to call.
#pragma once
#include <cstddef>
#include <functional>

namespace mssg {

// Runs task(0) … task(count - 1) on up to `threads` threads, the caller among them; returns when all are done.
// Tasks are handed out one by one, so a busy machine's late worker delays nobody.
void parallel(int count, int threads, const std::function<void(int)>& task);

// GOMP_parallel of GNU's OpenMP: runs function(data) on so many threads of its pool, the caller's among them.
using OpenMp = void (*)(void (*function)(void*), void* data, unsigned threads, unsigned flags);

// From now on `parallel` takes these threads instead of its own: a program that computes with OpenMP, too, then has one
// pool. Two would disturb each other, since OpenMP's threads wait for work with all their might.
void share_openmp(OpenMp run);

// Buffers of the calling thread: slot i keeps the largest size ever asked for, aligned to a page.
enum Slot { kTile, kTransformed, kProducts, kPadded, kConvolved, kSlots };
float* buffer(Slot slot, size_t floats);

// Bytes that all threads' buffers hold now.
size_t buffered_bytes();

}  // namespace mssg
