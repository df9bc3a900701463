"""Where checkpoints come from: folders as users have them, the Hugging Face hub, adapters."""
