// A provider of OpenID Connect on loopback: oidc-provider as its authors publish it, with one client and users whose groups
// stand in their names. Tests give commands on standard input, one a line, and read one line for each on standard output:
//   client REDIRECT_URI   from now on the provider answers, with new keys
//   rotate                signs with new keys, and forgets the others
//   lie WHAT              changes each ID token before it goes out, signed with the provider's own key where that is possible
//   lie                   stops that
//   clock TIME            it is TIME now, in seconds since 1970
// Its first line is its issuer. It ends with its standard input.
//   node provider.mjs FOLDER TIME   FOLDER has the packages; it is TIME, until told otherwise: the clock stands still
import { createRequire } from 'node:module';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

let clock = Number(process.argv[3]) * 1000;
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { super(...(given.length ? given : [clock])); }
  static now() { return clock; }
};
const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { default: Provider } = await load('oidc-provider');
const jose = await load('jose');
console.log = () => {};
console.warn = () => {};
console.info = () => {};

const CLIENT = 'openhgs';
const SECRET = 'hunter2 & more';
let redirectUri;
let keys;
let generation = 0;
let lie = '';
let answer = (request, response) => response.writeHead(503).end();

async function newKeys() {
  const pair = async (algorithm) => {
    const { privateKey } = await jose.generateKeyPair(algorithm, { extractable: true, modulusLength: 2048 });
    return { ...(await jose.exportJWK(privateKey)), alg: algorithm, use: 'sig', kid: `${algorithm}-${generation}` };
  };
  generation += 1;
  keys = { RS256: await pair('RS256'), ES256: await pair('ES256') };
}

async function start() {
  await newKeys();
  const provider = new Provider(issuer, {
    jwks: { keys: Object.values(keys) },
    clients: [{
      client_id: CLIENT,
      client_secret: SECRET,
      redirect_uris: [redirectUri],
      id_token_signed_response_alg: 'RS256',
    }],
    claims: { openid: ['sub', 'groups', 'preferred_username'] },
    conformIdTokenClaims: false,
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ['a key of tests'] },
    // alice.reviewers.staff is in two groups.
    findAccount: (_, id) => {
      const [name, ...groups] = id.split('.');
      return { accountId: id, claims: () => ({ sub: id, preferred_username: name, groups }) };
    },
  });
  answer = provider.callback();
}

async function changed(token) {
  const [header, claims] = token.split('.', 2).map((part) => JSON.parse(Buffer.from(part, 'base64url')));
  const sign = async (more, key = keys.RS256, head = {}) => new jose.SignJWT({ ...claims, ...more })
    .setProtectedHeader({ alg: 'RS256', kid: keys.RS256.kid, ...head }).sign(await jose.importJWK(key, key.alg));
  const now = Math.floor(Date.now() / 1000);
  const part = (json) => Buffer.from(JSON.stringify(json)).toString('base64url');
  switch (lie) {
    case 'none': return `${part({ alg: 'none' })}.${part(claims)}.`;
    case 'HS256': {
      const spki = await jose.exportSPKI(await jose.importJWK({ kty: 'RSA', n: keys.RS256.n, e: keys.RS256.e }, 'RS256'));
      return new jose.SignJWT(claims).setProtectedHeader({ alg: 'HS256', kid: header.kid }).sign(Buffer.from(spki));
    }
    case 'other key': {
      const other = await jose.exportJWK((await jose.generateKeyPair('RS256', { extractable: true })).privateKey);
      const { n, e } = other;
      return sign({}, { ...other, alg: 'RS256' }, { jwk: { kty: 'RSA', n, e } });
    }
    case 'aud': return sign({ aud: 'another-client' });
    case 'azp': return sign({ aud: [CLIENT, 'another-client'], azp: 'another-client' });
    case 'iss': return sign({ iss: `${issuer}/` });
    case 'nonce': return sign({ nonce: 'of-another-sign-in' });
    case 'exp': return sign({ exp: now - 3600, iat: now - 7200 });
    case 'iat': return sign({ iat: now + 3600, exp: now + 7200 });
    case 'groups': return sign({ groups: undefined, _claim_names: { groups: 'src1' } });
    case 'ES256': return sign({}, keys.ES256, { alg: 'ES256', kid: keys.ES256.kid });
    default: throw new Error(`there is no lie ${lie}`);
  }
}

const server = createServer((request, response) => {
  if (lie && request.url === '/token') {
    const end = response.end.bind(response);
    response.end = (body, ...rest) => {
      const sent = JSON.parse(body.toString());
      changed(sent.id_token).then((token) => {
        const text = JSON.stringify({ ...sent, id_token: token });
        response.setHeader('content-length', Buffer.byteLength(text));
        end(text);
      }, (error) => { process.stderr.write(`${error.stack}\n`); process.exit(1); });
      return response;
    };
  }
  answer(request, response);
});
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;
process.stdout.write(`${issuer}\n`);

for await (const line of createInterface({ input: process.stdin })) {
  const [command, ...rest] = line.split(' ');
  const argument = rest.join(' ');
  if (command === 'client') {
    redirectUri = argument;
    await start();
  } else if (command === 'rotate') {
    await start();
  } else if (command === 'lie') {
    lie = argument;
  } else if (command === 'clock') {
    clock = Number(argument) * 1000;
  } else {
    throw new Error(`there is no command ${command}`);
  }
  process.stdout.write('done\n');
}
process.exit(0);
