// A small pool of threads and buffers that are kept from call to call.
#pragma once
#include <cstddef>
#include <functional>

namespace mssg {

// Runs task(0) … task(count - 1) on up to `threads` threads, the caller among them; returns when all are done.
// Tasks are handed out one by one, so a busy machine's late worker delays nobody.
void parallel(int count, int threads, const std::function<void(int)>& task);

// omp_pause_resource_all of the OpenMP that others in this program compute with. Its threads wait for more work with all
// their might, for milliseconds, on the processors that `parallel` needs: it is told to end them first.
using PauseOpenMp = int (*)(int kind);
void yield_openmp(PauseOpenMp pause);

// Buffers of the calling thread: slot i keeps the largest size ever asked for, aligned to a page.
enum Slot { kTile, kTransformed, kProducts, kPadded, kConvolved, kStyles, kSlots };
float* buffer(Slot slot, size_t floats);

// Bytes that all threads' buffers hold now.
size_t buffered_bytes();

}  // namespace mssg
