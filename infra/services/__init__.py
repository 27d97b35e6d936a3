"""Services for scheduled flows on one machine: PostgreSQL, a Prefect server, a worker and an S3-compatible store."""
