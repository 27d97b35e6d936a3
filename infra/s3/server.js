// S3-compatible store on one machine: node server.js FOLDER PORT [HOST]
//
// s3rver stores each object as a plain file. This program adds what it lacks: requests must carry a valid signature of
// version 4 by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and an object is visible only once it is complete.
'use strict';

const crypto = require('crypto');
const fs = require('fs');
const http = require('http');
const path = require('path');
const { Readable, Transform } = require('stream');
const { pipeline } = require('stream/promises');
const S3rver = require('s3rver');
const { DUMMY_ACCOUNT } = require('s3rver/lib/models/account');
const FilesystemStore = require('s3rver/lib/stores/filesystem');

// s3rver encrypts the continuation tokens of listings with DES, which OpenSSL 3 lacks: every listing of more than 1,000
// objects failed. The tokens need not be secret.
const plain = { update: (text, encoding) => Buffer.from(text, encoding), final: () => Buffer.alloc(0) };
for (const name of ['createCipheriv', 'createDecipheriv']) {
  const original = crypto[name];
  crypto[name] = (algorithm, ...rest) => (algorithm === 'des' ? plain : original(algorithm, ...rest));
}

const [folder, port, host = '127.0.0.1'] = process.argv.slice(2);
const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, S3_BUCKETS: buckets = '' } = process.env;
if (!folder || !port || !id || !secret) {
  console.error('usage: node server.js FOLDER PORT [HOST]; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY');
  process.exit(2);
}
const objects = path.join(folder, 'objects');
const uploads = path.join(folder, 'uploads');

// Write an object beside the store and move it into place, so that an interrupted upload leaves nothing.
FilesystemStore.prototype.putObject = async function putObject(object) {
  const target = this.getResourcePath(object.bucket, object.key, 'object');
  const part = path.join(uploads, crypto.randomUUID());
  const digest = crypto.createHash('md5');
  let size = 0;
  const content = Buffer.isBuffer(object.content) ? Readable.from([object.content]) : object.content;
  const measure = new Transform({
    transform(chunk, encoding, done) {
      digest.update(chunk);
      size += chunk.length;
      done(null, chunk);
    },
  });
  try {
    await pipeline(content, measure, fs.createWriteStream(part, { flush: true }));
    const md5 = digest.digest('hex');
    await fs.promises.mkdir(path.dirname(target), { recursive: true });
    await this.putMetadata(object.bucket, object.key, object.metadata, md5);
    await fs.promises.rename(part, target);
    return { size, md5 };
  } catch (error) {
    await fs.promises.rm(part, { force: true });
    throw error;
  }
};

const hmac = (key, text) => crypto.createHmac('sha256', key).update(text, 'utf8').digest();
const encode = text =>
  encodeURIComponent(text).replace(/[!'()*]/g, c => '%' + c.charCodeAt(0).toString(16).toUpperCase());
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
function isSigned(request) {
  const pattern = /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/;
  const match = pattern.exec(request.headers.authorization || '');
  if (!match) return false;
  const [, credential, signed, signature] = match;
  const [key, date, region, service, ending] = credential.split('/');
  const time = request.headers['x-amz-date'] || '';
  if (key !== id || ending !== 'aws4_request' || !time.startsWith(date) || !signed.split(';').includes('host')) {
    return false;
  }
  const [location, query = ''] = request.url.split('?');
  const parameters = query
    .split('&')
    .filter(Boolean)
    .map(pair => [pair.split('=')[0], pair.split('=').slice(1).join('=')].map(part => encode(decodeURIComponent(part))))
    .sort((a, b) => compare(a[0], b[0]) || compare(a[1], b[1]));
  const canonical = [
    request.method,
    location,
    parameters.map(pair => pair.join('=')).join('&'),
    ...signed.split(';').map(name => `${name}:${(request.headers[name] || '').trim().replace(/ +/g, ' ')}`),
    '',
    signed,
    request.headers['x-amz-content-sha256'] || '',
  ].join('\n');
  const scope = [date, region, service, ending].join('/');
  const digest = crypto.createHash('sha256').update(canonical, 'utf8').digest('hex');
  const signing = [date, region, service, ending].reduce(hmac, 'AWS4' + secret);
  const expected = hmac(signing, ['AWS4-HMAC-SHA256', time, scope, digest].join('\n'));
  return crypto.timingSafeEqual(expected, Buffer.from(signature, 'hex'));
}

function refuse(response) {
  response.writeHead(403, { 'Content-Type': 'application/xml' });
  response.end(
    '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>SignatureDoesNotMatch</Code>' +
      '<Message>The request is not signed with the key of this store</Message></Error>',
  );
}

function respond(request, response, serve) {
  if (request.method === 'GET' && request.url === '/-/health') {
    response.end('ok');
    return;
  }
  let valid = false;
  try {
    valid = isSigned(request);
  } catch (error) {
    if (!(error instanceof URIError)) throw error; // a malformed percent sign in the query
  }
  if (valid) serve(request, response);
  else refuse(response);
}

async function main() {
  fs.mkdirSync(objects, { recursive: true, mode: 0o700 });
  fs.rmSync(uploads, { recursive: true, force: true });
  fs.mkdirSync(uploads, { mode: 0o700 });
  DUMMY_ACCOUNT.revokeAccessKey('S3RVER');
  DUMMY_ACCOUNT.createKeyPair(id, secret);
  const names = buckets.split(',').filter(Boolean);
  const missing = names.filter(name => !fs.existsSync(path.join(objects, name)));
  const store = new S3rver({ directory: objects, silent: true, configureBuckets: missing.map(name => ({ name })) });
  await store.configureBuckets();
  const serve = store.callback();
  const server = http.createServer((request, response) => respond(request, response, serve));
  server.listen(Number(port), host, () => console.log(`S3 store on http://${host}:${port}, folder ${folder}`));
  for (const name of ['SIGINT', 'SIGTERM']) {
    process.once(name, () => {
      server.close(() => process.exit(0));
      server.closeIdleConnections();
      setTimeout(() => server.closeAllConnections(), 5000).unref();
    });
  }
}

main().catch(error => {
  console.error(error);
  process.exit(1);
});
