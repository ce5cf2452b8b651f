/** Guest sessions: a JSON Web Token, HS256 (RFC 7515, RFC 7519) by WebCrypto. */
import { required } from "./env.js";
import { json, objectFrom, problem } from "./responses.js";

const LIFETIME_S = 3600;
const SIGNED_IN_S = 12 * 3600;
const HMAC = { name: "HMAC", hash: "SHA-256" };
const HEADER = base64url(new TextEncoder().encode(JSON.stringify({ alg: "HS256", typ: "JWT" })));

/**
 * With a bearer token: its claims, or 401. Without one: a new guest session.
 *
 * @type {import("./router.js").Handler}
 */
export async function session(request, env) {
  const secret = required(env, "JWT_SECRET");
  const token = /^Bearer (\S+)$/i.exec(request.headers.get("authorization") ?? "")?.[1];
  if (token !== undefined) {
    const claims = await verify(token, secret, nowSeconds());
    return claims === null ? problem(401, "the session is not valid or over") : json({ session: claims });
  }
  const issuedAt = nowSeconds();
  const claims = { sub: `guest-${crypto.randomUUID()}`, iat: issuedAt, exp: issuedAt + LIFETIME_S };
  return json({ token: await sign(claims, secret), session: claims });
}

/**
 * Sign in by address and code: a token that lasts longer. There are no accounts: the code is everybody's.
 *
 * @type {import("./router.js").Handler}
 */
export async function signIn(request, env) {
  const secret = required(env, "JWT_SECRET");
  const { email, code } = (await objectFrom(request)) ?? {};
  if (typeof email !== "string") return problem(400, "email must be text");
  if (code !== (env.SIGN_IN_CODE ?? "000000")) return problem(401, "the code is not right");
  const issuedAt = nowSeconds();
  const claims = { sub: email, iat: issuedAt, exp: issuedAt + SIGNED_IN_S };
  return json({ token: await sign(claims, secret), session: claims }, { status: 201 });
}

/** @returns {Promise<string>} */
export async function sign(claims, secret) {
  const unsigned = `${HEADER}.${base64url(new TextEncoder().encode(JSON.stringify(claims)))}`;
  const signature = await crypto.subtle.sign(HMAC, await keyFrom(secret), new TextEncoder().encode(unsigned));
  return `${unsigned}.${base64url(new Uint8Array(signature))}`;
}

/** @returns {Promise<Record<string, unknown> | null>} null: wrong signature, other algorithm, or over */
export async function verify(token, secret, now) {
  const [header, payload, signature, ...more] = token.split(".");
  if (header !== HEADER || payload === undefined || signature === undefined || more.length > 0) return null;
  try {
    const signed = new TextEncoder().encode(`${header}.${payload}`);
    if (!(await crypto.subtle.verify(HMAC, await keyFrom(secret), fromBase64url(signature), signed))) return null;
    const claims = JSON.parse(new TextDecoder().decode(fromBase64url(payload)));
    return typeof claims.exp === "number" && claims.exp > now ? claims : null;
  } catch {
    return null; // not base64, not JSON
  }
}

function keyFrom(secret) {
  return crypto.subtle.importKey("raw", new TextEncoder().encode(secret), HMAC, false, ["sign", "verify"]);
}

function nowSeconds() {
  return Math.floor(Date.now() / 1000);
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function fromBase64url(text) {
  return Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (character) => character.charCodeAt(0));
}
