"""The server compared with other servers under load, and its endurance and fuzz tests."""
