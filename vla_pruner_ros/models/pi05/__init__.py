"""pi0.5 (arXiv 2504.16054): PaliGemma with an action expert steered by adaptive norms."""
