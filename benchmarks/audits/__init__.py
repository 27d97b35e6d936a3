"""Audits compared with other libraries on injected faults, and their speed."""
