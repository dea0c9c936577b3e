// Strophe.js, a stock BOSH client, under Node: logs in, sends presence, echoes every chat message. Told "forget", it drops its
// connection without a word and goes on with the session as a page that was loaded again does (attach); told "leave", it goes.
// usage: node strophe.mjs SERVICE JID PASSWORD; speaks one JSON object a line on standard output.
import { createRequire } from "node:module";
import { $iq, $msg, $pres, Strophe } from "strophe.js";

// What a browser has and Node has not: requests, with their answers as documents.
const { XMLHttpRequest } = createRequire(import.meta.url)("xmlhttprequest-ssl");
globalThis.XMLHttpRequest = function () {
  const request = new XMLHttpRequest();
  const document = () => new DOMParser().parseFromString(request.responseText, "text/xml");
  Object.defineProperty(request, "responseXML", { get: () => (request.responseText ? document() : null) });
  return request;
};
Strophe.setLogLevel(Strophe.LogLevel.FATAL);
const [service, jid, password] = process.argv.slice(2);
const say = (event, more = {}) => console.log(JSON.stringify({ event, ...more }));
const names = Object.fromEntries(Object.entries(Strophe.Status).map(([name, number]) => [number, name]));
let connection;

function heard(message) {
  const from = message.getAttribute("from");
  const body = message.getElementsByTagName("body")[0]?.textContent;
  if (!body) return true;
  say("message", { from, body });
  if (body === "forget") {
    const { sid, rid } = connection._proto;
    connection._proto._requests.forEach((request) => { request.abort = true; request.xhr.abort(); });
    begin();
    connection.attach(connection.jid || jid, sid, rid, status);
    return false;
  }
  if (body === "leave") {
    connection.disconnect("asked to");
    return true;
  }
  connection.send($msg({ to: from, type: "chat" }).c("body").t(`echo: ${body}`));
  return true;
}

function status(number, condition) {
  say(names[number].toLowerCase(), { condition, jid: connection.jid });
  if (number === Strophe.Status.CONNECTED || number === Strophe.Status.ATTACHED) {
    connection.addHandler(heard, null, "message", "chat");
    connection.send($pres());
    connection.sendIQ($iq({ type: "get", to: Strophe.getDomainFromJid(jid) }).c("ping", { xmlns: "urn:xmpp:ping" }),
      () => say("online", { jid: connection.jid }));
  }
  if (number === Strophe.Status.DISCONNECTED) process.exit(0);
}

function begin() {
  const mine = new Strophe.Connection(service);
  mine.rawInput = (text) => process.env.TRACE && console.error("<", text);
  mine.rawOutput = (text) => process.env.TRACE && console.error(">", text);
  connection = mine;
}

begin();
connection.connect(jid, password, status, 30, 1);
