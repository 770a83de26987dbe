#include "common.cuh"
// Keeps the device busy for a number of clock cycles. What the host starts in the meantime queues up. Events
// around the queued work then measure the device's time only, not the host's time between launches.
extern "C" __global__ void hold(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {
    }
}
