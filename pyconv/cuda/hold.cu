#include "common.cuh"
// Keeps the device busy for a number of clock cycles. What the host starts meanwhile queues up behind, so
// that events around it see the device's time only, not the time that the host takes from one launch to the
// next.
extern "C" __global__ void hold(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {
    }
}
