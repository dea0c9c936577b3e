"""slixmpp, a stock Python client: login, presence, roster, messages, carbons, blocking, kick."""

import asyncio
import itertools

import pytest
import slixmpp
from slixmpp.exceptions import IqError

from conftest import PASSWORD

PATIENCE = 60
numbers = itertools.count()


class Client(slixmpp.ClientXMPP):
    """Collects what arrives in queues, so that a test can wait for it."""

    def __init__(self, server, jid, mode, password=PASSWORD):
        super().__init__(jid, password)
        self.whimbreld, self.mode = server, mode
        for plugin in ("xep_0030", "xep_0054", "xep_0085", "xep_0092", "xep_0184", "xep_0191", "xep_0199",
                       "xep_0202", "xep_0280", "xep_0352", "xep_0049", "xep_0012"):
            self.register_plugin(plugin)
        self.ca_certs = server.certificate
        self.enable_direct_tls = mode == "direct-tls"
        self.enable_starttls = mode == "starttls"
        self.enable_plaintext = False
        self.auto_authorize = None
        self.auto_subscribe = False
        self.events = {}
        for name in ("session_start", "failed_auth", "message", "presence_available", "presence_unavailable", "presence_away",
                     "presence_subscribe", "presence_subscribed", "roster_update", "carbon_received",
                     "carbon_sent", "disconnected", "stream_error", "blocked", "message_error"):
            self.events[name] = asyncio.Queue()
            self.add_event_handler(name, self.events[name].put_nowait)

    async def get(self, name, wanted=lambda _: True):
        """The next event of this name that is wanted; others of that name are dropped."""
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await self.events[name].get()
                if wanted(event):
                    return event

    async def online(self):
        port = self.whimbreld.tls_port if self.mode == "direct-tls" else self.whimbreld.port
        self.connect(host="127.0.0.1", port=port)
        started = asyncio.create_task(self.events["session_start"].get())
        failed = asyncio.create_task(self.events["failed_auth"].get())
        done, pending = await asyncio.wait({started, failed}, timeout=PATIENCE,
                                           return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        assert started in done, "the login failed"
        await self.get_roster()
        self.send_presence()
        await self.get("presence_available", lambda p: p["from"] == self.boundjid)
        return self

    async def offline(self):
        await self.disconnect()


def run(test):
    """Runs one test of several clients, and closes them whatever happens."""
    async def guarded():
        clients = []
        try:
            await test(clients)
        finally:
            await asyncio.gather(*(client.disconnect(wait=0.5) for client in clients), return_exceptions=True)
    asyncio.run(guarded())


@pytest.fixture(params=["starttls", "direct-tls"])
def mode(request):
    return request.param


@pytest.fixture
def names(server):
    n = next(numbers)
    return [server.account(f"{name}{n}") for name in ("juliet", "romeo")]


async def log_in(clients, server, mode, *jids):
    found = []
    for jid in jids:
        client = Client(server, jid, mode)
        clients.append(client)
        found.append(await client.online())
    return found


def test_two_clients_talk(server, mode, names):
    async def test(clients):
        juliet, romeo = await log_in(clients, server, mode, *names)
        romeo.send_message(mto=juliet.boundjid.bare, mbody="Call me but love", mtype="chat")
        message = await juliet.get("message")
        assert message["body"] == "Call me but love" and message["from"] == romeo.boundjid
        message.reply("Art thou not Romeo? ♥ <&>").send()
        answer = await romeo.get("message")
        assert answer["body"] == "Art thou not Romeo? ♥ <&>" and answer["from"] == juliet.boundjid
    run(test)


def test_a_subscription_handshake_shows_presence_both_ways(server, mode, names):
    async def test(clients):
        juliet, romeo = await log_in(clients, server, mode, *names)
        romeo.send_presence(pto=juliet.boundjid.bare, ptype="subscribe")
        await juliet.get("presence_subscribe")
        juliet.send_presence(pto=romeo.boundjid.bare, ptype="subscribed")
        await romeo.get("presence_available", lambda p: p["from"] == juliet.boundjid)
        juliet.send_presence(pto=romeo.boundjid.bare, ptype="subscribe")
        await romeo.get("presence_subscribe")
        romeo.send_presence(pto=juliet.boundjid.bare, ptype="subscribed")
        await juliet.get("presence_available", lambda p: p["from"] == romeo.boundjid)
        await juliet.get_roster()
        assert juliet.client_roster[romeo.boundjid.bare]["subscription"] == "both"
        romeo.send_presence(pshow="away", pstatus="in Mantua")
        away = await juliet.get("presence_away")
        assert away["status"] == "in Mantua"
        await romeo.offline()
        await juliet.get("presence_unavailable", lambda p: p["from"].bare == romeo.boundjid.bare)
    run(test)


def test_what_one_device_sends_the_other_sees_by_carbons(server, mode, names):
    async def test(clients):
        juliet, phone, desk = await log_in(clients, server, mode, names[0], names[1], names[1])
        await phone.plugin["xep_0280"].enable()
        await desk.plugin["xep_0280"].enable()
        phone.send_message(mto=juliet.boundjid.bare, mbody="from the phone", mtype="chat")
        copy = await desk.get("carbon_sent")
        assert copy["carbon_sent"]["body"] == "from the phone"
        await juliet.get("message")
        juliet.send_message(mto=phone.boundjid.full, mbody="to the phone", mtype="chat")
        copy = await desk.get("carbon_received")
        assert copy["carbon_received"]["body"] == "to the phone"
    run(test)


def test_a_blocked_contact_is_not_heard(server, mode, names):
    async def test(clients):
        juliet, romeo = await log_in(clients, server, mode, *names)
        await juliet.plugin["xep_0191"].block(romeo.boundjid.bare)
        # Nobody who is no contact learns of a block, or of an account.
        romeo.send_message(mto=juliet.boundjid.bare, mbody="hear me", mtype="chat")
        await romeo.plugin["xep_0199"].ping("localhost")
        await juliet.plugin["xep_0191"].unblock(romeo.boundjid.bare)
        romeo.send_message(mto=juliet.boundjid.bare, mbody="and now?", mtype="chat")
        assert (await juliet.get("message"))["body"] == "and now?"
    run(test)


def test_the_server_answers_for_itself(server, mode, names):
    async def test(clients):
        juliet, romeo = await log_in(clients, server, mode, *names)
        info = await juliet.plugin["xep_0030"].get_info(jid="localhost")
        assert ("server", "im") in {(i[0], i[1]) for i in info["disco_info"]["identities"]}
        features = info["disco_info"]["features"]
        for feature in ("urn:xmpp:ping", "urn:xmpp:carbons:2", "urn:xmpp:blocking", "vcard-temp",
                        "jabber:iq:version", "urn:xmpp:time"):
            assert feature in features, feature
        assert (await juliet.plugin["xep_0092"].get_version("localhost"))["software_version"]["name"]
        time = (await juliet.plugin["xep_0202"].get_entity_time("localhost"))["entity_time"]
        assert time.xml.findtext("{urn:xmpp:time}utc").endswith("Z")
        assert await juliet.plugin["xep_0199"].ping("localhost") is not None
        card = juliet.plugin["xep_0054"].make_vcard()
        card["FN"] = "Juliet Capulet"
        await juliet.plugin["xep_0054"].publish_vcard(card)
        seen = await romeo.plugin["xep_0054"].get_vcard(jid=juliet.boundjid.bare)
        assert seen["vcard_temp"]["FN"] == "Juliet Capulet"
    run(test)


def test_a_request_to_nobody_comes_back(server, mode, names):
    async def test(clients):
        (romeo,) = await log_in(clients, server, mode, names[1])
        # The message is ignored, as it would be kept for somebody who is away.
        romeo.send_message(mto="nobody@localhost", mbody="anyone?", mtype="chat")
        with pytest.raises(IqError) as refused:
            await romeo.plugin["xep_0199"].ping("nobody@localhost")
        assert refused.value.iq["error"]["condition"] == "service-unavailable"
    run(test)


def test_a_wrong_password_is_refused(server, mode, names):
    async def test(clients):
        client = Client(server, names[0], mode, password="wrong")
        clients.append(client)
        client.connect(host="127.0.0.1", port=server.tls_port if mode == "direct-tls" else server.port)
        await client.get("failed_auth")
    run(test)


def test_a_kicked_client_is_told(server, mode, names):
    async def test(clients):
        (juliet,) = await log_in(clients, server, mode, names[0])
        sessions = await asyncio.to_thread(server.ctl, "sessions", "--user", names[0], "--json")
        assert juliet.boundjid.full in sessions.stdout
        await asyncio.to_thread(server.ctl, "kick", names[0])
        await juliet.get("disconnected")
    run(test)
