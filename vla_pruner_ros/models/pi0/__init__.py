"""pi0: policy, network, decoding and checkpoint layouts."""
