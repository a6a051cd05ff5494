"""The HtFLlib form of FedAvg, FD and FedProto, held against loops that share no code with it."""
