"""Sources: one module a kind. Each opens a stream or a sample of unparsed rows, and compiles a parser for them."""
