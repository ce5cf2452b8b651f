// The class behind `import { EmailMessage } from "cloudflare:email"`, which workerd itself leaves to its host.
class EmailMessage {
  constructor(from, to, raw) {
    if (typeof from !== "string" || typeof to !== "string") throw new TypeError("EmailMessage takes (from, to, raw)");
    this.from = from;
    this.to = to;
    this.raw = raw;
  }
}

export default { EmailMessage };
