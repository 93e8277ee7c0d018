"""InSPO Benchmark: offline multi-agent reinforcement learning, its methods, tasks, data and tables."""
