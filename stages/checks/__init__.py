"""Data contract of the manifest: rules that are checked as one Great Expectations suite.

`contract` lists the rules, `custom_expectations` the checks that Great Expectations lacks, `suite` runs them all, and
`results` turns what Great Expectations returns into messages.
"""
