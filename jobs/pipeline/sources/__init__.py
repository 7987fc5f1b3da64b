"""Sources: one module a kind. Each opens a stream or a sample, and parses its rows.

Every kind offers the same three functions:
`open_stream` and `open_sample` give unparsed rows; `parse` gives `_record`, `_malformed` and the data columns.
"""
