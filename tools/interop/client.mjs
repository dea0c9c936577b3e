// @xmpp/client, a stock JavaScript client: logs in, sends presence, echoes every chat message; reads its archive when it is
// told "remember".
// usage: node client.mjs SERVICE USERNAME PASSWORD RESOURCE; speaks one JSON object a line on standard output.
import { client, xml } from "@xmpp/client";

const [service, username, password, resource] = process.argv.slice(2);
const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
const xmpp = client({ service, domain: "localhost", username, password, resource });
xmpp.reconnect.stop();
xmpp.on("error", (error) => say("error", { text: String(error.condition ?? error.message ?? error) }));
xmpp.on("offline", () => say("offline"));
const remembered = [];

async function remember() {
  const page = xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, "100"));
  const query = xml("query", { xmlns: "urn:xmpp:mam:2" }, page);
  const answer = await xmpp.iqCaller.request(xml("iq", { type: "set" }, query));
  say("archive", { bodies: remembered, complete: answer.getChild("fin").attrs.complete });
}

xmpp.on("stanza", async (stanza) => {
  const result = stanza.getChild("result", "urn:xmpp:mam:2");
  if (result) {
    remembered.push(result.getChild("forwarded").getChild("message").getChildText("body"));
    return;
  }
  if (stanza.is("presence")) say("presence", { from: stanza.attrs.from, type: stanza.attrs.type ?? "available" });
  const body = stanza.is("message") && stanza.getChildText("body");
  if (!body) return;
  say("message", { from: stanza.attrs.from, body });
  if (body === "leave") return xmpp.stop();
  if (body === "remember") return remember();
  await xmpp.send(xml("message", { type: "chat", to: stanza.attrs.from }, xml("body", {}, `echo: ${body}`)));
});
xmpp.on("online", async (address) => {
  await xmpp.send(xml("presence"));
  // It is online before <enabled/> has come, and counts wrong what comes with that.
  while (!xmpp.streamManagement.enabled) await new Promise((resolve) => setTimeout(resolve, 5));
  say("online", { jid: address.toString() });
});
xmpp.start().catch(() => process.exit(1));
