"""What all benchmarks share: the machine, its peak, interleaved timing, layers, peers and records."""
