# S3-compatible store for one machine: s3rver behind a check of signatures.
#
#   docker build -f infra/s3.Dockerfile -t macula-s3 .

FROM node:22-trixie-slim AS runtime
LABEL org.opencontainers.image.title="macula-s3" \
      org.opencontainers.image.description="S3-compatible store for one machine"
WORKDIR /opt/s3
COPY infra/s3/package.json infra/s3/package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund --omit=dev
COPY infra/s3/server.js ./
RUN install -d -o 65532 -g 65532 /data
USER 65532:65532
EXPOSE 9100
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 \
  CMD ["node", "-e", "fetch('http://127.0.0.1:9100/-/health').then(r => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "server.js"]
CMD ["/data", "9100", "0.0.0.0"]
