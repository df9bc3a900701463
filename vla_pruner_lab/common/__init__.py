"""Parts that several lab programs share: machine facts, golden cases, Markdown, processes."""
