// Strophe.js, a stock BOSH client, under Node: logs in, sends presence, echoes every chat message. Told "forget", it drops its
// connection without a word and goes on with the session as a page that was loaded again does (attach); told "leave", it goes.
// usage: node strophe.mjs SERVICE JID PASSWORD; speaks one JSON object a line on standard output.
import { $iq, $msg, $pres, Strophe } from "strophe.js";

// What a browser has and Node has not.
globalThis.XMLHttpRequest = class {
  readyState = 0;
  status = 0;
  responseText = "";
  #headers = {};
  #control = new AbortController();

  open(method, address) {
    Object.assign(this, { method, address, readyState: 1 });
  }
  setRequestHeader(name, value) {
    this.#headers[name] = value;
  }
  getAllResponseHeaders() {
    return "";
  }
  get responseXML() {
    return this.responseText ? new DOMParser().parseFromString(this.responseText, "text/xml") : null;
  }
  abort() {
    this.#control.abort();
  }
  async send(body) {
    try {
      const { method, address } = this;
      const answer = await fetch(address, { method, body, headers: this.#headers, signal: this.#control.signal });
      this.responseText = await answer.text();
      this.status = answer.status;
    } catch {
      this.status = 0;
    }
    this.readyState = 4;
    this.onreadystatechange?.();
  }
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
    forget(connection);
    return false;
  }
  if (body === "leave") {
    connection.disconnect("asked to");
    return true;
  }
  connection.send($msg({ to: from, type: "chat" }).c("body").t(`echo: ${body}`));
  return true;
}

// As soon as a request is held.
// Not before its last request has gone out: one that never was would leave a gap in their numbers, and the session would wait for it.
function forget(old, seen) {
  const { sid, rid, _requests } = old._proto;
  if (_requests.length === 0 || rid !== seen) return setTimeout(() => forget(old, rid), 200);
  old.pause();
  clearTimeout(old._idleTimeout);
  _requests.forEach((request) => { request.abort = true; request.xhr.abort(); });
  begin();
  connection.attach(old.jid, sid, rid, status);
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
