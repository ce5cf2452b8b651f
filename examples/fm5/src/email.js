/** Email through a provider's HTTP API (the shape of Resend's: POST /emails with a bearer key). */
import { required } from "./env.js";

const TIMEOUT_MS = 3000;

/**
 * Hand one message to the provider.
 *
 * @param {import("./env.js").Env} env
 * @param {{to: string, subject: string, text: string}} message
 * @throws when the provider cannot be reached or does not take it
 */
export async function sendEmail(env, message) {
  const response = await fetch(`${required(env, "EMAIL_API_URL")}/emails`, {
    method: "POST",
    headers: { authorization: `Bearer ${required(env, "EMAIL_API_KEY")}`, "content-type": "application/json" },
    body: JSON.stringify({ from: env.EMAIL_FROM ?? "FM5 <orders@fm5.example.com>", ...message, to: [message.to] }),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`the email provider answered ${response.status}`);
}
