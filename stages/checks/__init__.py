"""Data contract of the manifest: rules that are checked as one Great Expectations suite.

`contract` lists the built-in rules and `user_rules` those of `checks.expectations`. `dataset_checks` and `label_checks`
contain the checks that Great Expectations lacks, and `custom_expectations` wraps them. `suite` runs all rules, and
`results` turns what Great Expectations returns into messages.
"""
