"""OpenVLA and OpenVLA-OFT: policies, network and prompt."""
