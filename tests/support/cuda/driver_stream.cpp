// Streams, events, capture and graphs of the emulated driver.
//
// A stream is a queue that somebody who synchronises with it executes. A capture collects
// operations in the order of the calls, which is one of the orders that the captured dependencies
// allow; launching a graph queues all of them.
#include <algorithm>
#include <chrono>
#include <cstdlib>

#include "driver.hpp"

namespace anvil_emulated {

namespace {

double now_in_ms() {
  const auto time = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(time).count();
}

bool is_legacy(CUstream handle) { return handle == nullptr || handle == CU_STREAM_LEGACY; }

bool is_eager() {
  const char* text = std::getenv("ANVIL_EMULATED_EAGER");
  return text != nullptr && *text == '1';
}

// Executes the oldest operation; after the first error, the context executes nothing.
void execute_one(Stream& stream) {
  const Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (stream.context->sticky != CUDA_SUCCESS) return;
  stream.context->sticky = operation();
}

// The default stream waits for a capture on a stream that blocks on it, which cannot be.
CUresult refuse_implicit(Context* context) {
  for (const auto& entry : driver().streams) {
    const Stream& stream = *entry.second;
    if (stream.context != context || !stream.blocking || stream.capture == nullptr) continue;
    stream.capture->invalidated = true;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "the default stream is used in a capture");
  }
  return CUDA_SUCCESS;
}

void end_capture(Stream& stream) {
  auto& captures = driver().captures;
  captures.erase(std::remove(captures.begin(), captures.end(), stream.capture), captures.end());
  stream.capture = nullptr;
}

// Executes what an event waits for.
void wait_for(const std::shared_ptr<Event>& event, std::uint64_t ticket) {
  const auto stream = event->stream.lock();
  while (event->completed < ticket && stream != nullptr && !stream->queue.empty()) {
    execute_one(*stream);
  }
}

std::shared_ptr<Event> find_event(CUevent handle) {
  const auto found = driver().events.find(handle);
  return found == driver().events.end() ? nullptr : found->second;
}

}  // namespace

std::shared_ptr<Stream> find_stream(CUstream handle, CUresult& result) {
  Context* context = current_context();
  if (is_legacy(handle)) return context->default_stream;
  const auto found = driver().streams.find(handle);
  if (found == driver().streams.end()) {
    result = refuse(CUDA_ERROR_INVALID_HANDLE, "unknown stream %p", static_cast<void*>(handle));
    return nullptr;
  }
  if (found->second->context != context) {
    result = refuse(CUDA_ERROR_INVALID_HANDLE, "a stream of another context");
    return nullptr;
  }
  return found->second;
}

CUresult drain(const std::shared_ptr<Stream>& stream) {
  while (!stream->queue.empty()) execute_one(*stream);
  return stream->context->sticky;
}

CUresult drain_blocking(Context* context) {
  if (const CUresult result = refuse_implicit(context)) return result;
  drain(context->default_stream);
  for (const auto& entry : driver().streams) {
    if (entry.second->context == context && entry.second->blocking) drain(entry.second);
  }
  return context->sticky;
}

CUresult drain_all(Context* context) {
  drain(context->default_stream);
  for (const auto& entry : driver().streams) {
    if (entry.second->context == context) drain(entry.second);
  }
  return context->sticky;
}

CUresult enqueue(CUstream handle, Operation operation) {
  CUresult result = CUDA_SUCCESS;
  const auto stream = find_stream(handle, result);
  if (stream == nullptr) return result;
  if (stream->capture != nullptr) {
    if (stream->capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->graph->operations.push_back(std::move(operation));
    return CUDA_SUCCESS;
  }
  if (is_legacy(handle)) {
    if ((result = drain_blocking(stream->context)) != CUDA_SUCCESS) return result;
  } else if (stream->blocking) {
    if ((result = drain(stream->context->default_stream)) != CUDA_SUCCESS) return result;
  }
  stream->queue.push_back(std::move(operation));
  return is_eager() ? drain(stream) : CUDA_SUCCESS;
}

CUresult refuse_in_capture(const char* name) {
  CUresult result = CUDA_SUCCESS;
  for (const auto& capture : driver().captures) {
    if (capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    capture->invalidated = true;
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result == CUDA_SUCCESS ? result : refuse(result, "%s: called during a capture", name);
}

}  // namespace anvil_emulated

using namespace anvil_emulated;

extern "C" {

CUresult CUDAAPI cuStreamCreate(CUstream* out, unsigned flags) {
  ANVIL_ENTER("cuStreamCreate", context);
  if (out == nullptr || flags > CU_STREAM_NON_BLOCKING) return CUDA_ERROR_INVALID_VALUE;
  auto stream = std::make_shared<Stream>();
  stream->context = current_context();
  stream->blocking = (flags & CU_STREAM_NON_BLOCKING) == 0;
  *out = make_handle<CUstream>();
  driver().streams[*out] = std::move(stream);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamDestroy(CUstream handle) {
  ANVIL_ENTER("cuStreamDestroy", context);
  CUresult result = CUDA_SUCCESS;
  const auto stream = find_stream(handle, result);
  if (stream == nullptr) return result;
  if (driver().streams.count(handle) == 0) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != nullptr) end_capture(*stream);
  result = drain(stream);
  driver().streams.erase(handle);
  return result;
}

CUresult CUDAAPI cuStreamSynchronize(CUstream handle) {
  ANVIL_ENTER("cuStreamSynchronize", context);
  CUresult result = CUDA_SUCCESS;
  const auto stream = find_stream(handle, result);
  if (stream == nullptr) return result;
  if (stream->capture != nullptr) {
    stream->capture->invalidated = true;
    return refuse(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,
                  "cuStreamSynchronize: the stream is in a capture");
  }
  return is_legacy(handle) ? drain_blocking(stream->context) : drain(stream);
}

CUresult CUDAAPI cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  ANVIL_ENTER("cuStreamBeginCapture", context);
  CUresult result = CUDA_SUCCESS;
  const auto stream = find_stream(handle, result);
  if (stream == nullptr) return result;
  if (is_legacy(handle)) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture != nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  driver().captures.push_back(stream->capture);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuStreamEndCapture(CUstream handle, CUgraph* out) {
  ANVIL_ENTER("cuStreamEndCapture", context);
  CUresult result = CUDA_SUCCESS;
  *out = nullptr;
  const auto stream = find_stream(handle, result);
  if (stream == nullptr) return result;
  const auto capture = stream->capture;
  if (capture == nullptr) return CUDA_ERROR_ILLEGAL_STATE;
  end_capture(*stream);
  if (capture->invalidated) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  *out = make_handle<CUgraph>();
  driver().graphs[*out] = capture->graph;
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphInstantiate(CUgraphExec* out, CUgraph graph, unsigned long long) {
  ANVIL_ENTER("cuGraphInstantiate", context);
  const auto found = driver().graphs.find(graph);
  if (found == driver().graphs.end()) return CUDA_ERROR_INVALID_VALUE;
  *out = make_handle<CUgraphExec>();
  driver().executables[*out] = std::make_shared<Graph>(*found->second);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuGraphLaunch(CUgraphExec executable, CUstream handle) {
  ANVIL_ENTER("cuGraphLaunch", context);
  const auto found = driver().executables.find(executable);
  if (found == driver().executables.end()) return CUDA_ERROR_INVALID_VALUE;
  return enqueue(handle, [graph = found->second] {
    for (const Operation& operation : graph->operations) {
      if (const CUresult result = operation()) return result;
    }
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuGraphDestroy(CUgraph graph) {
  ANVIL_ENTER("cuGraphDestroy", initialization);
  return driver().graphs.erase(graph) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuGraphExecDestroy(CUgraphExec executable) {
  ANVIL_ENTER("cuGraphExecDestroy", initialization);
  return driver().executables.erase(executable) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult CUDAAPI cuEventCreate(CUevent* out, unsigned flags) {
  ANVIL_ENTER("cuEventCreate", context);
  if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
  auto event = std::make_shared<Event>();
  event->context = current_context();
  event->timing = (flags & CU_EVENT_DISABLE_TIMING) == 0;
  *out = make_handle<CUevent>();
  driver().events[*out] = std::move(event);
  return CUDA_SUCCESS;
}

CUresult CUDAAPI cuEventDestroy(CUevent handle) {
  ANVIL_ENTER("cuEventDestroy", context);
  return driver().events.erase(handle) != 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult CUDAAPI cuEventRecord(CUevent handle, CUstream stream_handle) {
  ANVIL_ENTER("cuEventRecord", context);
  CUresult result = CUDA_SUCCESS;
  const auto stream = find_stream(stream_handle, result);
  if (stream == nullptr) return result;
  const auto event = find_event(handle);
  if (event == nullptr || event->context != stream->context) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture != nullptr) {
    return refuse(CUDA_ERROR_NOT_SUPPORTED, "cuEventRecord: not emulated in a capture");
  }
  event->stream = stream;
  return enqueue(stream_handle, [event, ticket = ++event->recorded] {
    event->completed = std::max(event->completed, ticket);
    event->time = now_in_ms();
    return CUDA_SUCCESS;
  });
}

CUresult CUDAAPI cuEventSynchronize(CUevent handle) {
  ANVIL_ENTER("cuEventSynchronize", context);
  const auto event = find_event(handle);
  if (event == nullptr) return CUDA_ERROR_INVALID_HANDLE;
  wait_for(event, event->recorded);
  return event->context->sticky;
}

CUresult CUDAAPI cuEventElapsedTime(float* ms, CUevent begin_handle, CUevent end_handle) {
  ANVIL_ENTER("cuEventElapsedTime", context);
  const auto begin = find_event(begin_handle), end = find_event(end_handle);
  if (begin == nullptr || end == nullptr || !begin->timing || !end->timing ||
      begin->recorded == 0 || end->recorded == 0) {
    return CUDA_ERROR_INVALID_HANDLE;
  }
  if (begin->completed < begin->recorded || end->completed < end->recorded) {
    return CUDA_ERROR_NOT_READY;
  }
  *ms = static_cast<float>(end->time - begin->time);
  return CUDA_SUCCESS;
}

#ifdef cuEventElapsedTime
// The headers of CUDA 13 add a version to the name; who finds functions by name asks for this one.
#undef cuEventElapsedTime
__attribute__((visibility("default"))) CUresult CUDAAPI cuEventElapsedTime(float* ms, CUevent begin,
                                                                           CUevent end) {
  return cuEventElapsedTime_v2(ms, begin, end);
}
#endif
}
