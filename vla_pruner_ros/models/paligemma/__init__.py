"""PaliGemma with an action expert beside it: what pi0 and pi0.5 share."""
