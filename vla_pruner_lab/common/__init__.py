"""Parts that several lab programs share: machine metadata, golden cases, Markdown, processes."""
