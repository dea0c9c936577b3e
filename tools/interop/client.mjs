// @xmpp/client, a stock JavaScript client: logs in, sends presence, echoes every chat message; reads its archive when it is
// told "remember".
// usage: node client.mjs SERVICE USERNAME PASSWORD RESOURCE; speaks one JSON object a line on standard output, and takes requests
// of its archive, one a line, on standard input: {"page": {"fields": {"with": "a@b"}, "max": 50, "before": "", "flip": true}},
// {"metadata": {}}, {"prefs": {"default": "always", "never": ["a@b"]}}.
import { createInterface } from "node:readline";
import { client, xml } from "@xmpp/client";

const MAM = "urn:xmpp:mam:2";

const [service, username, password, resource] = process.argv.slice(2);
const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
const xmpp = client({ service, domain: "localhost", username, password, resource });
xmpp.reconnect.stop();
xmpp.on("error", (error) => say("error", { text: String(error.condition ?? error.message ?? error) }));
xmpp.on("offline", () => say("offline"));
let remembered = [];

async function remember() {
  const { messages, complete } = await page({ max: 100 });
  say("archive", { bodies: messages.map((message) => message.body), complete });
}

const field = ([name, value], type) =>
  xml("field", { var: name, type }, ...[value].flat().map((text) => xml("value", {}, text)));

async function page({ fields = {}, max = 50, after, before, flip = false }) {
  remembered = [];
  const form = xml("x", { xmlns: "jabber:x:data", type: "submit" }, field(["FORM_TYPE", MAM], "hidden"),
    ...Object.entries(fields).map((one) => field(one)));
  const set = xml("set", { xmlns: "http://jabber.org/protocol/rsm" }, xml("max", {}, String(max)));
  if (after !== undefined) set.append(xml("after", {}, after));
  if (before !== undefined) set.append(xml("before", {}, before));
  const query = xml("query", { xmlns: MAM }, form, set);
  if (flip) query.append(xml("flip-page"));
  const answer = await xmpp.iqCaller.request(xml("iq", { type: "set" }, query));
  const fin = answer.getChild("fin", MAM);
  return { messages: remembered, complete: fin.attrs.complete, last: fin.getChild("set").getChildText("last") };
}

const requests = {
  page,
  async metadata() {
    const answer = await xmpp.iqCaller.get(xml("metadata", MAM));
    return Object.fromEntries(answer.getChildElements().map(({ name, attrs }) => [name, attrs]));
  },
  async prefs({ default: standard, always = [], never = [] }) {
    const list = (name, jids) => xml(name, {}, ...jids.map((jid) => xml("jid", {}, jid)));
    const prefs = xml("prefs", { xmlns: MAM, default: standard }, list("always", always), list("never", never));
    const told = await xmpp.iqCaller.set(prefs);
    const of = (name) => told.getChild(name).getChildren("jid").map((jid) => jid.text());
    return { default: told.attrs.default, always: of("always"), never: of("never") };
  },
};

createInterface({ input: process.stdin }).on("line", async (line) => {
  const [[name, wanted]] = Object.entries(JSON.parse(line));
  try {
    say(name, await requests[name](wanted));
  } catch (error) {
    say("refused", { text: String(error.condition ?? error) });
  }
});
// Whoever gives it no requests need not close it.
process.stdin.unref?.();

xmpp.on("stanza", async (stanza) => {
  const result = stanza.getChild("result", "urn:xmpp:mam:2");
  if (result) {
    const forwarded = result.getChild("forwarded");
    const [{ stamp }, message] = [forwarded.getChild("delay").attrs, forwarded.getChild("message")];
    remembered.push({ id: result.attrs.id, stamp, body: message.getChildText("body") });
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
