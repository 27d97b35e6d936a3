#!/usr/bin/env bash
# s3rver 3.7.1 (npm), Node.js 20.20.2: a bucket with more than 1,000 objects cannot be listed.
#
# A listing returns at most 1,000 keys and a continuation token for the next page. s3rver encrypts this token with DES.
# OpenSSL 3, with which Node.js is built since version 17, has DES in its legacy provider only, which is not loaded. The
# request therefore ends with status 500 (InternalError) as soon as there is a second page. With 1,000 objects, the same
# request succeeds. A client retries and then reports a fault of the store, and nothing in the message names the number.
#
# Seen:
#   1000 objects: status 200
#   1001 objects: status 500
#   cipher: Error: error:0308010C:digital envelope routines::unsupported
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund s3rver@3.7.1 >/dev/null 2>&1
cat > list.js <<'JS'
const crypto = require('crypto');
const http = require('http');
const S3rver = require('s3rver');

async function main() {
  const server = new S3rver({
    port: 0, address: '127.0.0.1', silent: true, directory: './store', configureBuckets: [{ name: 'bucket' }],
  });
  const { port } = await server.run();
  const send = (method, path) => new Promise((done, failed) => {
    const request = http.request({ port, host: '127.0.0.1', method, path }, response => {
      response.resume().on('end', () => done(response.statusCode));
    });
    request.on('error', failed).end();
  });
  for (const count of [1000, 1001]) {
    for (let i = count === 1000 ? 0 : 1000; i < count; i++) await send('PUT', `/bucket/${String(i).padStart(4, '0')}`);
    console.log(`${count} objects: status ${await send('GET', '/bucket?list-type=2')}`);
  }
  try {
    crypto.createCipheriv('des', Buffer.alloc(8), Buffer.alloc(8));
  } catch (error) {
    console.log(`cipher: ${error}`);
  }
  await server.close();
}

main();
JS
node list.js | tee seen
diff seen - <<'SEEN'
1000 objects: status 200
1001 objects: status 500
cipher: Error: error:0308010C:digital envelope routines::unsupported
SEEN
