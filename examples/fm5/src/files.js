/** The files of the models (drawings, meshes), kept in R2. */
import { json, problem } from "./responses.js";

const LARGEST_BYTES = 10 * 1024 * 1024;

/** @type {import("./router.js").Handler} */
export async function getFile(_request, env, _ctx, { key }) {
  const object = await env.MODELS.get(decodeURIComponent(key));
  if (object === null) return problem(404, "no such file");
  const headers = new Headers({ "content-type": object.httpMetadata?.contentType ?? "application/octet-stream" });
  headers.set("etag", object.httpEtag);
  headers.set("content-length", String(object.size));
  return new Response(object.body, { headers });
}

/** @type {import("./router.js").Handler} */
export async function putFile(request, env, _ctx, { key }) {
  const sizeBytes = Number(request.headers.get("content-length") ?? Number.NaN);
  if (!Number.isSafeInteger(sizeBytes)) return problem(411, "content-length is needed");
  if (sizeBytes > LARGEST_BYTES) return problem(413, `at most ${LARGEST_BYTES} bytes`);
  const contentType = request.headers.get("content-type") ?? "application/octet-stream";
  const body = await request.arrayBuffer();
  const object = await env.MODELS.put(decodeURIComponent(key), body, { httpMetadata: { contentType } });
  return json({ key: object.key, size_bytes: object.size, etag: object.etag }, { status: 201 });
}
