"""Sources of checkpoints: folders as users have them, the Hugging Face hub, adapters."""
