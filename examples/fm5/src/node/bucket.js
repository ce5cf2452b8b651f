/** A bucket of an S3 store with the calls of an R2 binding that the application makes: get, put, list. */
import { createHash, createHmac } from "node:crypto";

const TIMEOUT_MS = 5000;
const NOTHING = new Uint8Array();

export class Bucket {
  /** @param {{endpoint: string, bucket: string, accessKeyId: string, secretAccessKey: string, region?: string}} access */
  constructor({ endpoint, bucket, accessKeyId, secretAccessKey, region = "us-east-1" }) {
    this.root = new URL(`${endpoint.replace(/\/$/, "")}/${encodeURIComponent(bucket)}`);
    this.access = { accessKeyId, secretAccessKey, region };
  }

  /** @returns {Promise<null | {key: string, size: number, httpEtag: string, httpMetadata: object, body: ReadableStream}>} */
  async get(key) {
    const response = await this.#call("GET", key);
    if (response.status === 404) {
      const text = await response.text();
      if (text.includes("NoSuchKey")) return null;
      throw new Error(describe(response, text));
    }
    await mustBeOk(response);
    const { headers, body } = response;
    const httpMetadata = { contentType: headers.get("content-type") ?? undefined };
    return { key, size: Number(headers.get("content-length")), httpEtag: headers.get("etag"), httpMetadata, body };
  }

  /** @returns {Promise<{key: string, size: number, etag: string, httpEtag: string}>} */
  async put(key, body, { httpMetadata = {} } = {}) {
    const bytes = new Uint8Array(body);
    const contentType = httpMetadata.contentType ?? "application/octet-stream";
    const response = await mustBeOk(await this.#call("PUT", key, { body: bytes, contentType }));
    await response.arrayBuffer();
    const httpEtag = response.headers.get("etag") ?? "";
    return { key, size: bytes.length, etag: httpEtag.replaceAll('"', ""), httpEtag };
  }

  /** The keys, at most `limit` of them. */
  async list({ limit = 1000 } = {}) {
    const response = await mustBeOk(await this.#call("GET", "", { query: `list-type=2&max-keys=${limit}` }));
    const found = (await response.text()).matchAll(/<Key>([^<]*)<\/Key>/g);
    return { objects: Array.from(found, ([, key]) => ({ key })) };
  }

  /** One signed call (AWS Signature Version 4). */
  async #call(method, key, { query = "", body = NOTHING, contentType } = {}) {
    const path = key === "" ? this.root.pathname : `${this.root.pathname}/${key.split("/").map(encode).join("/")}`;
    const time = new Date().toISOString().replace(/[-:]|\.\d{3}/g, "");
    const headers = { host: this.root.host, "x-amz-content-sha256": sha256(body), "x-amz-date": time };
    const signed = Object.keys(headers).join(";");
    const lines = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
    const asked = [method, path, query, lines.join(""), signed, headers["x-amz-content-sha256"]].join("\n");
    const scope = [time.slice(0, 8), this.access.region, "s3", "aws4_request"];
    const toSign = ["AWS4-HMAC-SHA256", time, scope.join("/"), sha256(asked)].join("\n");
    const secret = scope.reduce((made, part) => hmac(made, part), `AWS4${this.access.secretAccessKey}`);
    const credential = `Credential=${this.access.accessKeyId}/${scope.join("/")}`;
    const signature = hmac(secret, toSign).toString("hex");
    const authorization = `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=${signed}, Signature=${signature}`;
    const { host, ...sent } = headers; // fetch sets it
    if (contentType !== undefined) sent["content-type"] = contentType;
    return await fetch(`${this.root.origin}${path}${query && `?${query}`}`, {
      method,
      headers: { ...sent, authorization },
      body: method === "PUT" ? body : undefined,
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  }
}

async function mustBeOk(response) {
  if (response.ok) return response;
  throw new Error(describe(response, await response.text()));
}

function describe(response, text) {
  return `the object store answered ${response.status} ${/<Code>(\w+)<\/Code>/.exec(text)?.[1] ?? ""}`.trim();
}

function encode(text) {
  return encodeURIComponent(text).replace(/[!'()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16).toUpperCase()}`);
}

function sha256(data) {
  return createHash("sha256").update(data).digest("hex");
}

function hmac(key, text) {
  return createHmac("sha256", key).update(text).digest();
}
