// The send_email binding: it hands the message to the twin's outbox as JSON. Nothing is ever sent on.
function subjectOf(raw) {
  const head = raw.split(/\r?\n\r?\n/, 1)[0].replace(/\r?\n[ \t]+/g, " ");
  const line = head.split(/\r?\n/).find((text) => /^subject:/i.test(text));
  return line === undefined ? "" : line.slice("subject:".length).trim();
}

async function plain(message) {
  if (message.raw === undefined) return message;
  const raw = typeof message.raw === "string" ? message.raw : await new Response(message.raw).text();
  const text = raw.slice(raw.search(/\r?\n\r?\n/)).trim();
  return { from: message.from, to: message.to, subject: subjectOf(raw) || "(no subject)", text, raw };
}

export default function (env) {
  return {
    async send(message) {
      const answer = await env.outbox.fetch("http://127.0.0.1/send", {
        method: "POST",
        headers: { "content-type": "application/json", authorization: "Bearer binding" },
        body: JSON.stringify(await plain(message)),
      });
      const said = await answer.text();
      if (!answer.ok) throw new Error(`email was not sent: ${answer.status} ${said.trim()}`);
      return { messageId: JSON.parse(said).id };
    },
  };
}
