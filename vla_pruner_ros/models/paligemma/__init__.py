"""PaliGemma with an action expert next to it, shared by pi0 and pi0.5."""
