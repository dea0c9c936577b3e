// @xmpp/client, a stock JavaScript client: logs in, sends presence, echoes every chat message.
// usage: node client.mjs SERVICE USERNAME PASSWORD RESOURCE; speaks one JSON object a line on standard output.
import { client, xml } from "@xmpp/client";

const [service, username, password, resource] = process.argv.slice(2);
const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
const xmpp = client({ service, domain: "localhost", username, password, resource });
xmpp.reconnect.stop();
xmpp.on("error", (error) => say("error", { text: String(error.condition ?? error.message ?? error) }));
xmpp.on("offline", () => say("offline"));
xmpp.on("stanza", async (stanza) => {
  if (stanza.is("presence")) say("presence", { from: stanza.attrs.from, type: stanza.attrs.type ?? "available" });
  const body = stanza.is("message") && stanza.getChildText("body");
  if (!body) return;
  say("message", { from: stanza.attrs.from, body });
  if (body === "leave") return xmpp.stop();
  await xmpp.send(xml("message", { type: "chat", to: stanza.attrs.from }, xml("body", {}, `echo: ${body}`)));
});
xmpp.on("online", async (address) => {
  await xmpp.send(xml("presence"));
  say("online", { jid: address.toString() });
});
xmpp.start().catch(() => process.exit(1));
